"""The next run on the same servers puts back what a killed one left there, and only then goes on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.errors import UsageError, WorldError
from harness.recording import write_observations
from harness.run.folder import RunFolder
from harness.run.holder import record_file
from harness.run.journal import Journal, read
from harness.run.lease import Lease
from harness.run.moving import route
from harness.run.owed import owes
from harness.run.placed import MARK, PLACE, mark, remove
from harness.run.recover import put_back_only, recover
from harness.run.unfinished import alone, changes
from harness.scenario import Scenario, from_checkout, from_gate, load
from harness.triton import Change, Control
from tests.run.test_operations import RETIRE
from tests.run.test_put_back_routers import Router

ROUTER = "haproxy+tcp://127.0.0.1:9?backend=b&baseline=baseline&candidate=candidate"
SCENARIO = """
name: routed
target: {{url: "grpc://127.0.0.1:8001"}}
baseline: {{model: tiny, version: 1}}
candidate: {{model: tiny, version: 2}}
ingress: {{control: "{control}", url: "http://127.0.0.1:8080"}}
stages: [{{mode: split, candidate: 20%, rate: 20/s, for: 3s}}]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Router:
    only = Router(ROUTER, [])
    monkeypatch.setattr("harness.run.put_back.open_ingress", lambda _target: only)
    monkeypatch.setattr("harness.run.unfinished.open_ingress", lambda _target: only)
    return only


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    path = tmp_path / "routed.yaml"
    path.write_text(SCENARIO.format(control=ROUTER))
    found = load(path)
    assert isinstance(found, Scenario)
    return found


def killed(tmp_path: Path, router: Router) -> Path:
    """The folder of a run that gave the candidate 20 %, and died with its leases."""
    folder = RunFolder.create(tmp_path / "out", "killed", {"scenario": {"name": "killed"}})
    lease = Lease.take([ROUTER], folder.path)
    route(Journal(folder.path), router, 0.2)
    router.told.clear()
    lease.release()  # the journal says that it did not come to its end
    return folder.path


def new(tmp_path: Path) -> Path:
    return RunFolder.create(tmp_path / "out", "new", {"scenario": {"name": "new"}}).path


def test_what_a_killed_run_left_is_put_back_first_and_told_in_a_line(
    tmp_path: Path, router: Router, scenario: Scenario
) -> None:
    old, lines = killed(tmp_path, router), list[str]()
    with alone(scenario, new(tmp_path), lines.append) as lease:
        assert router.share == 0.0
        assert not owes(read(old))
        assert lines == [
            f"{old}: this earlier run had left changes, put back now: {ROUTER}: 100 % to the baseline, as before"
        ]
        assert lease.targets == ("grpc://127.0.0.1:8001", ROUTER)
    with alone(scenario, new(tmp_path), lines.append):
        assert len(lines) == 1


def test_what_cannot_be_put_back_ends_the_new_run_with_the_command_that_does_it(
    tmp_path: Path, router: Router, scenario: Scenario
) -> None:
    old = killed(tmp_path, router)
    router.dead = "nobody answers"
    for _ in range(2):
        with pytest.raises(WorldError) as caught:
            alone(scenario, new(tmp_path), lambda _: None)
        assert caught.value.exit_code == 4
        assert f"{old}: what this earlier run had changed is NOT PUT BACK: route.set {ROUTER}: " in str(caught.value)
        assert f"triton-canary recover {old}" in str(caught.value)
    router.dead = ""
    lines: list[str] = []
    with alone(scenario, new(tmp_path), lines.append):
        assert router.share == 0.0
        assert len(lines) == 1


def test_recover_by_hand_settles_it_for_the_next_run(tmp_path: Path, router: Router, scenario: Scenario) -> None:
    old, lines = killed(tmp_path, router), list[str]()
    assert put_back_only(old, lambda _: None, ()) == []
    with alone(scenario, new(tmp_path), lines.append):
        assert lines == []


def test_recover_keeps_away_from_what_another_run_has(tmp_path: Path, router: Router) -> None:
    old = killed(tmp_path, router)
    with Lease.take([ROUTER], new(tmp_path)):
        with pytest.raises(UsageError, match="has it since"):
            recover(old, lambda _: None)
        assert router.share == 0.2
    assert put_back_only(old, lambda _: None, ()) == []
    with Lease.take([ROUTER], new(tmp_path)):
        assert put_back_only(old, lambda _: None, ()) == [], "nothing is left to be put back"


def test_recover_needs_no_room_on_the_disk_for_a_lease(
    tmp_path: Path, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, lines = killed(tmp_path, router), list[str]()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert put_back_only(old, lines.append, ()) == []
    assert router.share == 0.0
    assert "cannot be written" in lines[0]


def test_the_folder_of_the_earlier_run_is_gone(tmp_path: Path, router: Router, scenario: Scenario) -> None:
    old, lines = killed(tmp_path, router), list[str]()
    old.rename(tmp_path / "elsewhere")
    with alone(scenario, new(tmp_path), lines.append):
        assert lines == [
            f"{old}: this run ended with changes to put back, and is gone: see `route show` and `models status`"
        ]
    with alone(scenario, new(tmp_path), lines.append):
        assert len(lines) == 1


def test_what_it_had_placed_is_known_by_its_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI cleans the working tree, and the journal with it, before the next job begins."""
    url, repository, unloaded = "grpc://127.0.0.1:8001", tmp_path / "models", list[str]()

    class Server(Control):
        def unload(self, model: str) -> Change:
            assert (repository / model).is_dir(), "unloaded first"
            unloaded.append(model)
            return Change(model, (1,), (), (), True, (), 0.0)

    monkeypatch.setattr("harness.run.unfinished.Control", Server)
    old = RunFolder.create(tmp_path / "out", "killed", {"scenario": {"name": "killed"}})
    for name, run in (("llm.base", old.path), ("llm.head", old.path), ("llm.other", tmp_path / "other")):
        (repository / name).mkdir(parents=True)
        (repository / name / MARK).write_bytes(mark(run))
    (repository / "llm").mkdir()
    (repository / "torn").mkdir()
    (repository / "torn" / MARK).write_text("{")
    lease = Lease.take([url], old.path)
    with Journal(old.path).action(PLACE, str(repository / "llm.base")):
        pass
    lease.release()
    shutil.rmtree(old.path)
    wanted, lines = from_checkout("llm", ("llm.b", 1), ("llm.h", 1), url, repository, {}), list[str]()
    with alone(wanted, new(tmp_path), lines.append):
        assert unloaded == ["llm.base", "llm.head"]
        assert lines[1:] == [f"{name}: removed from the repository, as before" for name in unloaded]
        assert sorted(path.name for path in repository.iterdir()) == ["llm", "llm.other", "torn"]


def test_only_what_a_run_has_placed_itself_is_removed(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for name, content in (("a", mark(mine)), ("b", mark(other)), ("c", b"{"), ("d", None)):
        (tmp_path / name / "1").mkdir(parents=True)
        if content is not None:
            (tmp_path / name / MARK).write_bytes(content)
    assert remove(tmp_path / "a", mine) == "a: removed from the repository, as before"
    for name, said in (("b", f"put there by {other}"), ("c", "cannot be removed"), ("d", "cannot be removed")):
        with pytest.raises(WorldError, match=said):
            remove(tmp_path / name, mine)
        assert (tmp_path / name / "1").is_dir()
    (tmp_path / "e").mkdir()  # by a run that died before it could mark it
    assert remove(tmp_path / "e", mine) == "e: removed from the repository, as before"
    assert remove(tmp_path / "e", mine) == "e: is not in the repository, as before"


def test_a_run_of_another_machine_is_put_back_there(
    tmp_path: Path, router: Router, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("harness.run.holder.socket.gethostname", lambda: "another-host")
        old = killed(tmp_path, router)
    old.rename(tmp_path / "elsewhere")
    with pytest.raises(WorldError, match=f"ended on another-host .*: there: triton-canary recover {old}"):
        alone(scenario, new(tmp_path), lambda _: None)


def test_a_run_that_is_still_alive_is_not_put_back(tmp_path: Path, router: Router, scenario: Scenario) -> None:
    old = killed(tmp_path, router)
    alive = RunFolder(old, {})
    alive.lock()
    with pytest.raises(WorldError, match="still alive"):
        alone(scenario, new(tmp_path), lambda _: None)
    assert router.share == 0.2
    alive.unlock()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target: {server: embedded}", []),
        ("target: {url: 'grpc://127.0.0.1:8001'}", ["grpc://127.0.0.1:8001"]),
    ],
)
def test_what_a_run_may_change(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(
        f"name: some\n{text}\nbaseline: {{model: tiny, version: 1}}\ncandidate: {{model: tiny, version: 2}}\n"
        "stages: [{mode: paired, in_flight: 1, for: 3s}]\n"
    )
    found = load(path)
    assert isinstance(found, Scenario)
    assert changes(found) == expected


def test_arms_that_are_only_compared_are_not_held() -> None:
    assert changes(from_gate("grpc://a:8001/m:1", "grpc://b:8001/m:2")) == []


def test_what_an_operation_may_change(tmp_path: Path) -> None:
    path = tmp_path / "retire.yaml"
    path.write_text(
        RETIRE.format(url="grpc://127.0.0.1:8001", repository=tmp_path, model="tiny", more="version: 1\nwindow: 1s\n")
    )
    assert changes(load(path)) == ["grpc://127.0.0.1:8001"]
    assert changes(load("retire-model")) == []
    assert changes(load("max-rate", url="grpc://127.0.0.1:8001")) == [], "it only asks"


def test_an_operation_that_was_killed_is_looked_after(tmp_path: Path) -> None:
    """What it did is in a journal of its servers', so that its own cannot say that there is nothing to do."""
    meta = {"scenario": {"name": "x", "target": {"url": "grpc://127.0.0.1:9", "repository": str(tmp_path)}}}
    folder = RunFolder.create(tmp_path / "out", "operation", meta).path
    write_observations(folder, {"format": 1, "kind": "retire-model", "finished": False})
    with Lease.take(["grpc://127.0.0.1:9"], folder) as lease:
        path = record_file(lease._home, "grpc://127.0.0.1:9")
        told = path.read_text()
    path.write_text(told.replace(f'"pid": {os.getpid()}', '"pid": 4194304'))
    lines: list[str] = []
    with Lease.take(["grpc://127.0.0.1:9"], new(tmp_path)) as second:
        assert [left.folder for left in second.left] == [str(folder)]
        assert put_back_only(folder, lines.append, second.targets) == []
    with Lease.take(["grpc://127.0.0.1:9"], new(tmp_path)) as third:
        assert third.left == ()
