"""The three operations on servers and stores of somebody else, and the built-in ones through the real command."""

from __future__ import annotations

import json
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import UsageError
from harness.run.execute import Result
from harness.run.operations import demonstration
from harness.run.operations.demonstration import break_version
from harness.run.operations.operate import operate
from harness.scenario import Operation, load
from harness.store import open_store, publish
from harness.triton import Control
from tests.run.conftest import canary, only_folder
from tests.store.artifactory_emulator import ArtifactoryEmulator

pytestmark = pytest.mark.triton

REGIONS = ("north", "south")
FILES = {
    "run.json",
    "journal.jsonl",
    "observations.json",
    "verdict.json",
    "report.md",
    "report.html",
    "junit.xml",
    "metrics.txt",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EmbeddedServer]]:
    """Two Tritons of somebody else, each with a repository of its own."""
    running = []
    for name in ("north", "south"):
        folder = tmp_path_factory.mktemp(name)
        repository_in(folder / "models", {1: "fp16"})
        running.append(EmbeddedServer(folder / "models", folder / "server.log"))
    try:
        for server in running:
            server.start({"tiny": [1]})
        yield running
    finally:
        for server in running:
            server.stop()


@pytest.fixture
def north(servers: list[EmbeddedServer]) -> EmbeddedServer:
    return servers[0]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's operator remembers what was done."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def ready(server: EmbeddedServer, model: str = "tiny") -> tuple[int, ...]:
    with Control(server.grpc_url) as control:
        return control.loaded(model)


def facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "observations.json").read_text())


def outcomes(result: Result) -> dict[str, str]:
    return {finding.metric: finding.outcome for finding in result.verdict.findings}


def run(tmp_path: Path, text: str) -> Result:
    """The scenario of a file, carried out here."""
    path = tmp_path / "operation.yaml"
    path.write_text(text)
    scenario = load(path)
    assert isinstance(scenario, Operation)
    return operate(scenario, tmp_path / "out", lambda _line: None)


def store_in(folder: Path, *versions: int, model: str = "tiny") -> Path:
    """A store that is a folder, with these versions of `model` published."""
    folder.mkdir(exist_ok=True)
    for version in versions:
        put(folder, model, version, "fp16")
    return folder


def put(store: Path, model: str, version: int, build: object) -> None:
    """Published with one process a version: it loads faster."""
    with tempfile.TemporaryDirectory() as name:
        built = repository_in(Path(name), {version: build})
        config = built / "tiny" / "config.pbtxt"
        config.write_text(config.read_text().replace('name: "tiny"', f'name: "{model}"'))
        publish(open_store(str(store)), built / "tiny" / str(version), model, version, config=config)


def repository_in(folder: Path, builds: dict[int, object]) -> Path:
    build_repository(folder, {"tiny": builds})
    config = folder / "tiny" / "config.pbtxt"
    config.write_text(re.sub(r"count: \d+", "count: 1", config.read_text()))
    return folder


# ---------------------------------------------------------------- the built-in ones


@pytest.mark.parametrize(
    ("name", "overrides", "metrics"),
    [
        ("repo-sync", [], {"sync.changed", "sync.untouched", "sync.broken"}),
        ("multi-region", ["probes=3"], {f"region.{r}.{m}" for r in REGIONS for m in ("ready", "bytes", "outputs")}),
        ("retire-model", ["window=1s"], {"traffic.v1", "traffic.v2", "retire.unloaded", "retire.directory"}),
    ],
)  # fmt: skip
def test_a_built_in_operation_is_one_command(
    tmp_path: Path, name: str, overrides: list[str], metrics: set[str]
) -> None:
    out = tmp_path / "out"
    done = canary("run", name, "--out", out, "--json", *(word for o in overrides for word in ("--set", o)))
    assert done.code == 0, done.stderr
    assert done.verdict["verdict"] == "promote"
    assert {finding["metric"] for finding in done.verdict["findings"]} == metrics
    assert {finding["outcome"] for finding in done.verdict["findings"]} == {"pass"}
    folder = only_folder(out)
    assert {path.name for path in folder.iterdir()} >= FILES
    if name != "retire-model":
        return
    before = {name: (folder / name).read_bytes() for name in ("verdict.json", "report.html", "report.md", "junit.xml")}
    for file in before:
        (folder / file).unlink()
    judged = canary("judge", folder, "--json")
    assert (judged.code, judged.stdout) == (0, done.stdout)
    assert canary("report", folder).code == 0
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert canary("recover", folder).code == 0
    assert {name: (folder / name).read_bytes() for name in before if name != "report.html"} == {
        name: content for name, content in before.items() if name != "report.html"
    }


def test_a_machine_without_the_parts_is_told_so_before_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demonstration, "s3_available", lambda: "the embedded S3 is not installed")
    scenario = load("multi-region")
    assert isinstance(scenario, Operation)
    with pytest.raises(UsageError, match="S3 is not installed"):
        operate(scenario, tmp_path / "out", lambda _line: None)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- repo-sync

SYNC = (
    "kind: repo-sync\nname: sync\nstore: {{url: {store}}}\ntarget: {{url: '{url}', repository: {repository}}}\n{more}"
)


def sync(tmp_path: Path, server: EmbeddedServer, store: object, more: str = "") -> Result:
    return run(tmp_path, SYNC.format(store=store, url=server.grpc_url, repository=server.repository, more=more))


def test_a_users_store_is_synced_once_and_then_there_is_nothing_to_do(tmp_path: Path, north: EmbeddedServer) -> None:
    store = store_in(tmp_path / "store", 1, model="own-a")
    store_in(store, 1, model="own-b")
    first = sync(tmp_path, north, store, "versioned_clients: true")
    assert first.exit_code == 0, first.verdict
    assert outcomes(first) == {"sync.changed": "pass", "sync.untouched": "pass"}
    assert ready(north, "own-a") == ready(north, "own-b") == (1,)
    assert facts(first.folder)["rounds"][0]["after"]["serving"]["own-a/1"]["processes"] is None
    store_in(store, 2, model="own-b")
    second = sync(tmp_path, north, store, "load: latest\nversioned_clients: true")
    assert second.exit_code == 0, second.verdict
    assert (ready(north, "own-a"), ready(north, "own-b")) == ((1,), (2,))
    assert "own-b/2" in second.verdict.findings[0].reason
    third = sync(tmp_path, north, store)
    assert third.exit_code == 0
    assert "nothing had changed" in third.verdict.reason


def test_a_broken_download_is_exit_4_and_nothing_changed(tmp_path: Path, north: EmbeddedServer) -> None:
    store = store_in(tmp_path / "store", 1, model="own-c")
    break_version(open_store(str(store)), "own-c", 1)
    before = sorted(north.repository.rglob("*"))
    result = sync(tmp_path, north, store)
    assert result.exit_code == 4
    assert "SHA-256" in str(result.error)
    assert outcomes(result) == {"sync.changed": "no data", "sync.untouched": "pass", "sync.broken": "pass"}
    assert result.verdict.verdict == "inconclusive"
    assert sorted(north.repository.rglob("*")) == before
    assert ready(north, "own-c") == ()


@pytest.mark.slow
def test_a_version_that_does_not_load_is_exit_4_and_the_old_one_serves(tmp_path: Path, north: EmbeddedServer) -> None:
    store = store_in(tmp_path / "store", 1, model="own-d")
    assert sync(tmp_path, north, store).exit_code == 0
    put(store, "own-d", 2, {"load_fails": True})
    result = sync(tmp_path, north, store, "versioned_clients: true")
    assert result.exit_code == 4
    assert "told to fail" in str(result.error)
    assert result.verdict.verdict != "promote"
    assert outcomes(result)["sync.untouched"] == "pass"
    assert ready(north, "own-d") == (1,)


def test_artifactory_by_its_emulator(tmp_path: Path, north: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator is no Artifactory; see its own words."""
    folder = store_in(tmp_path / "store", 1, model="own-e")
    with ArtifactoryEmulator() as emulator:
        for path in folder.rglob("*"):
            if path.is_file():
                emulator.put(path.relative_to(folder).as_posix(), path.read_bytes())
        result = sync(tmp_path, north, emulator.url)
    assert result.exit_code == 0, result.verdict
    assert ready(north, "own-e") == (1,)


# ---------------------------------------------------------------- multi-region


def regions(tmp_path: Path, servers: list[EmbeddedServer], store: Path, version: int, more: str = "") -> Result:
    lines = [
        f"  - {{name: {name}, url: '{server.grpc_url}', repository: {server.repository}}}"
        for name, server in zip(("north", "south"), servers, strict=True)
    ]
    head = f"kind: multi-region\nname: regions\nstore: {{url: {store}}}\nmodel: tiny\nversion: {version}\nprobes: 3\n"
    return run(tmp_path, head + "versioned_clients: true\nregions:\n" + "\n".join(lines) + "\n" + more)


def test_a_region_with_another_build_under_the_same_number_is_named(
    tmp_path: Path, servers: list[EmbeddedServer]
) -> None:
    store = store_in(tmp_path / "store", 2, 3)
    good = regions(tmp_path, servers, store, 2)
    assert good.exit_code == 0, good.verdict
    assert [ready(server) for server in servers] == [(1, 2), (1, 2)]

    # Somebody has put another version 3 into the south, and serves it.
    south = servers[1]
    build_repository(tmp_path / "other", {"tiny": {3: {"offset": 1}}})
    shutil.copytree(tmp_path / "other" / "tiny" / "3", south.repository / "tiny" / "3")
    with Control(south.grpc_url) as control:
        control.set_versions("tiny", [1, 2, 3])
    bad = regions(tmp_path, servers, store, 3)
    assert bad.exit_code == 1, bad.error
    found = outcomes(bad)
    assert {metric for metric, outcome in found.items() if outcome == "fail"} == {
        "region.south.ready", "region.south.bytes", "region.south.outputs",
    }  # fmt: skip
    assert {outcome for metric, outcome in found.items() if "north" in metric} == {"pass"}
    assert ready(servers[0]) == (1, 2, 3)
    assert "never overwritten" in facts(bad.folder)["regions"][1]["error"]


@pytest.mark.slow
def test_a_region_whose_answers_differ_gets_back_what_it_served(tmp_path: Path, servers: list[EmbeddedServer]) -> None:
    """Right bytes and wrong answers: as with another GPU, here by a file that its server reads while it serves."""
    store = store_in(tmp_path / "store", 5)
    south = servers[1]
    spoilt = threading.Event()

    def spoil(line: str) -> None:
        if line.startswith("north: 3 probes") and not spoilt.is_set():
            spoilt.set()
            (south.repository / "tiny" / "5" / "settings.json").write_text('{"offset": 2}\n')

    path = tmp_path / "operation.yaml"
    lines = [f"{{name: r{n}, url: '{s.grpc_url}', repository: {s.repository}}}" for n, s in enumerate(servers)]
    path.write_text(
        f"kind: multi-region\nname: regions\nstore: {{url: {store}}}\nmodel: tiny\nversion: 5\nprobes: 3\n"
        f"versioned_clients: true\nregions: [{', '.join(lines)}]\n"
    )
    before = ready(south)
    scenario = load(path)
    assert isinstance(scenario, Operation)
    result = operate(scenario, tmp_path / "out", lambda line: spoil(line.replace("r0", "north")))
    assert result.exit_code == 1
    assert outcomes(result)["region.r1.outputs"] == "fail"
    assert ready(south) == before
    assert 5 in ready(servers[0])
    assert "from before" in facts(result.folder)["regions"][1]["put_back"]


def test_a_dead_region_is_named_and_the_other_two_are_compared(
    tmp_path: Path, servers: list[EmbeddedServer], unused_url: str
) -> None:
    store = store_in(tmp_path / "store", 6)
    (tmp_path / "nowhere").mkdir()
    dead = f"  - {{name: dead, url: '{unused_url}', repository: {tmp_path / 'nowhere'}}}\n"
    result = regions(tmp_path, servers, store, 6, dead)
    found = outcomes(result)
    assert result.exit_code == 1
    assert {metric for metric, outcome in found.items() if outcome == "fail"} == {"region.dead.ready"}
    assert [outcome for metric, outcome in found.items() if "dead" not in metric] == ["pass"] * 6
    assert unused_url in result.verdict.reason


@pytest.fixture
def unused_url() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"grpc://127.0.0.1:{taken.getsockname()[1]}"


# ---------------------------------------------------------------- retire-model

RETIRE = "kind: retire-model\nname: retire\ntarget: {{url: '{url}', repository: {repository}}}\nmodel: {model}\n{more}"


def retire(tmp_path: Path, server: EmbeddedServer, model: str, more: str) -> Result:
    text = RETIRE.format(url=server.grpc_url, repository=server.repository, model=model, more=more)
    return run(tmp_path, text)


@pytest.fixture
def two(north: EmbeddedServer) -> Callable[[str], str]:
    """Versions 1 and 2 of a model of a test's own."""

    def make(name: str) -> str:
        repository_in(north.repository.parent / name, {1: "fp16", 2: "same"})
        shutil.copytree(north.repository.parent / name / "tiny", north.repository / name)
        config = north.repository / name / "config.pbtxt"
        config.write_text(config.read_text().replace('name: "tiny"', f'name: "{name}"'))
        with Control(north.grpc_url) as control:
            control.set_versions(name, [1, 2], repository=north.repository)
        return name

    return make


def test_retire_refuses_a_client_and_then_retires(
    tmp_path: Path, north: EmbeddedServer, two: Callable[[str], str]
) -> None:
    model = two("own-r")
    end = threading.Event()

    def ask() -> None:
        with Control(north.grpc_url) as control:
            while not end.wait(0.02):
                control.probe(model, 1)

    client = threading.Thread(target=ask)
    client.start()
    try:
        refused = retire(tmp_path, north, model, "version: 1\nwindow: 5s\n")
    finally:
        end.set()
        client.join()
    assert refused.exit_code == 1, refused.error
    assert refused.verdict.reason.startswith("Not retired:")
    assert outcomes(refused) == {"traffic.v1": "fail", "retire.unchanged": "pass", "traffic.v2": "pass"}
    assert ready(north, model) == (1, 2)
    assert (north.repository / model / "1").is_dir()

    archive = tmp_path / "archive"
    done = retire(tmp_path, north, model, f"version: 1\nwindow: 500ms\nsteady: 50/s\narchive: {archive}\n")
    assert done.exit_code == 0, done.verdict
    assert set(outcomes(done).values()) == {"pass"}
    assert ready(north, model) == (2,)
    assert (archive / model / "1" / "model.py").is_file()
    steps = [(step["action"], step["state"]) for step in facts(done.folder)["journal"]]
    assert steps.index(("models.set", "done")) < steps.index(("version.move", "begun"))

    # Once more there is nothing to do, and that is known.
    again = retire(tmp_path, north, model, f"version: 1\nwindow: 500ms\narchive: {archive}\n")
    assert again.exit_code == 0, again.verdict
    with pytest.raises(UsageError, match="no other version than 2"):
        retire(tmp_path, north, model, "version: 2\n")
    assert len(list((tmp_path / "out").iterdir())) == 3
