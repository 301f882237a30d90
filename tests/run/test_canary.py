"""Whole runs against a real Triton: the verdict, what it did, and what it left behind."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.load import Generator
from harness.run.execute import execute
from harness.scenario import load
from tests.processes import name
from tests.run.conftest import CANARY, SCENARIO, Done, canary, journal, only_folder, processes_of
from tests.run.measured import measured

pytestmark = pytest.mark.triton


def actions(folder: Path) -> list[tuple[str, object, object]]:
    return [(line["action"], line["before"], line["wanted"]) for line in journal(folder) if line["state"] == "done"]


@dataclass(frozen=True)
class Whole:
    """A run that came to its end. `seen` and `left`: the names of its processes while it ran, and afterwards."""

    done: Done
    folder: Path
    seen: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The same build, watched while it runs."""
    folder = tmp_path_factory.mktemp("promoted")
    (folder / "tiny-canary.yaml").write_text(SCENARIO)
    return measured(lambda out: watched(folder, out), folder / "out")


def watched(folder: Path, out: Path) -> Whole:
    seen: set[str] = set()
    command = [CANARY, "run", folder / "tiny-canary.yaml", "--out", out, "--json", "--seed", "3"]
    with (folder / "stdout").open("w+") as stdout, (folder / "stderr").open("w+") as stderr:
        run = subprocess.Popen(list(map(str, command)), stdout=stdout, stderr=stderr)
        try:
            while run.poll() is None:
                seen |= {name(process) for process in processes_of(out)}
                time.sleep(0.5)
        finally:
            run.kill()
            run.wait()
    left = frozenset(name(process) for process in processes_of(out))
    done = Done(run.returncode, (folder / "stdout").read_text(), (folder / "stderr").read_text())
    return Whole(done, only_folder(out), frozenset(seen), left)


@pytest.fixture(scope="module")
def erring(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("erring")
    (folder / "tiny-canary.yaml").write_text(SCENARIO)
    done = canary(
        "run", folder / "tiny-canary.yaml", "--out", folder / "out", "--json",
        "--set", "candidate.build=erring", "--set", "stages.0.for=60s",
    )  # fmt: skip
    return Whole(done, only_folder(folder / "out"))


def test_the_same_build_is_promoted_and_the_baseline_unloaded(promoted: Whole) -> None:
    done, folder = promoted.done, promoted.folder
    assert done.code == 0, done.stderr
    assert done.verdict == json.loads((folder / "verdict.json").read_text())
    assert done.verdict["verdict"] == "promote"
    assert [(a, b, w) for a, b, w in actions(folder) if a == "models.set"] == [
        ("models.set", [1], [1, 2]),
        ("models.set", [1, 2], [2]),
    ]
    assert [w for a, _, w in actions(folder) if a == "route.set"] == [0.2, 1.0]
    assert "versions: [2]" in (folder / "models/tiny/config.pbtxt").read_text().replace("[ 2 ]", "[2]")
    meta = json.loads((folder / "run.json").read_text())
    assert meta["finished"]
    assert len(bytes.fromhex(meta["nonce"])) == 8
    assert len(bytes.fromhex(meta["asked"])) == 32
    assert meta["recovery"] == ["baseline", "candidate"]
    assert meta["files"].keys() >= {"samples.parquet", "readings.parquet"}
    for file in ("report.html", "report.md", "junit.xml"):
        assert (folder / file).stat().st_size > 0
    samples = pq.read_table(folder / "samples.parquet").to_pandas()
    assert set(samples.status) == {"ok"}
    assert (samples[samples.arm == "baseline"].version == "1").all()
    assert (samples[samples.arm == "candidate"].version == "2").all()
    assert not list(folder.glob("*.arrow"))


def test_an_erring_build_is_rolled_back_before_the_stage_is_over(erring: Whole) -> None:
    done, folder = erring.done, erring.folder
    assert done.code == 1, done.stderr
    failed = {finding["metric"] for finding in done.verdict["findings"] if finding["outcome"] == "fail"}
    assert failed == {"errors"}
    stage = json.loads((folder / "run.json").read_text())["stages"][0]
    assert stage["decided_ns"] - stage["begin_ns"] < 0.9e9 * stage["plan"]["duration_s"], "the stage was cut short"
    done_actions = actions(folder)
    assert ("models.set", [1, 2], [1]) in done_actions
    assert [name for name, _, _ in done_actions if name in ("route.set", "models.set")][-2:] == [
        "route.set",
        "models.set",
    ]
    samples = pq.read_table(folder / "samples.parquet").to_pandas()
    after = samples[samples.sent_ns > stage["decided_ns"] + 3_000_000_000]
    assert (samples[samples.arm == "baseline"].status == "ok").all(), "no request of the baseline was lost"
    assert set(after.arm) <= {"baseline"}


def test_a_slow_build_is_rolled_back_naming_its_latency(scenario: Path, tmp_path: Path) -> None:
    slow = ("--set", "candidate.build={delay_ms: 10}")
    done = measured(lambda out: canary("run", scenario, "--out", out, "--json", *slow), tmp_path / "out")
    assert done.code == 1, done.stderr
    assert "response_time.p50" in {f["metric"] for f in done.verdict["findings"] if f["outcome"] == "fail"}


def test_judging_a_folder_again_changes_no_byte(erring: Whole) -> None:
    folder = erring.folder
    live = (folder / "verdict.json").read_bytes()
    for _ in range(2):
        assert canary("judge", folder).code == 1
        assert (folder / "verdict.json").read_bytes() == live
    page = (folder / "report.html").read_bytes()
    assert canary("report", folder).code == 0
    assert (folder / "report.html").read_bytes() == page


def test_a_candidate_that_does_not_load_leaves_the_baseline_alone(scenario: Path, tmp_path: Path) -> None:
    done = canary("run", scenario, "--out", tmp_path / "out", "--set", "candidate.build={load_fails: true}")
    assert done.code == 4
    assert "Traceback (most" not in done.stderr
    folder = only_folder(tmp_path / "out")
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "inconclusive"
    states = [line["state"] for line in journal(folder) if line["action"] == "models.set"]
    assert states[:2] == ["begun", "failed"]


def test_no_process_is_left_behind(promoted: Whole) -> None:
    assert any("tritonserver" in name for name in promoted.seen), "the search finds what is there"
    assert promoted.left == frozenset()


def test_what_was_never_compared_at_equal_load_is_not_promoted(scenario: Path, tmp_path: Path) -> None:
    """Each split stage has nothing against the candidate, and nobody proved anything: v1 must stay."""
    text = scenario.read_text().replace("  - {metric: response_time.p50, margin: 20%}\n", "")
    scenario.write_text(text.replace("  - {mode: paired, in_flight: 1, for: 6s}\n", ""))
    done = canary("run", scenario, "--out", tmp_path / "out", "--json")
    assert done.code == 3, done.stderr
    assert [w for a, _, w in actions(only_folder(tmp_path / "out")) if a == "models.set"] == [[1, 2], [1]]


def test_what_the_end_of_the_load_tells_counts_before_anything_is_done(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All stages were good, and then a worker's file comes damaged: v1 must stay."""
    stop = Generator.stop

    def damaged(self: Generator, deadline_s: float = 10.0) -> None:
        stop(self, deadline_s)
        worker = {"worker": 0, "host": "elsewhere", "pid": 1, "local": False}
        done = {"files": {}, "damaged": ["samples-0.arrow"], "sent_bytes": 0, "clock_error_s": 0.0}
        self.roster.note({"event": "worker_joined", **worker})
        self.roster.note({"event": "worker_done", **worker, **done})

    monkeypatch.setattr(Generator, "stop", damaged)
    result = measured(lambda out: execute(load(str(scenario)), out, lambda _: None, lambda _: None), tmp_path / "out")
    assert (result.verdict.verdict, result.exit_code) == ("inconclusive", 3)
    assert "files of load worker 0 on elsewhere did not come whole" in result.verdict.reason.lower()
    assert [w for a, _, w in actions(result.folder) if a == "models.set"] == [[1, 2], [1]]
    assert [w for a, _, w in actions(result.folder) if a == "route.set"] == [0.2, 1.0, 0.0]
