"""judge without samples: a folder that has sketches only, two bare files; and a file of very many samples."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pyarrow.parquet as pq
import pytest

from harness.cli import judging
from harness.judge import schema
from harness.judge.sketched import evidence as sketched
from tests.cli.conftest import Call
from tests.judge.sketched.worlds import World

WORLD = World(seed=2, slow=1.4)


def files(folder: Path, world: World = WORLD) -> Path:
    """What the workers of a run ship, in a folder."""
    folder.mkdir(exist_ok=True)
    recording = world.as_sketches()
    pq.write_table(recording.sketches, folder / "sketches.parquet")
    pq.write_table(recording.sums, folder / "sums.parquet")
    return folder


def run(folder: Path, world: World = WORLD) -> Path:
    files(folder, world)
    (folder / "run.json").write_text(json.dumps(world.meta()))
    return folder


def reasons(stdout: str) -> dict[str, str]:
    return {finding["metric"]: finding["reason"] for finding in json.loads(stdout)["findings"]}


def test_a_folder_with_sketches_only_is_judged_from_them(tmp_path: Path, call: Call) -> None:
    folder = run(tmp_path / "run")
    pq.write_table(WORLD.samples(), tmp_path / "samples.parquet")
    done = call("judge", folder, "--json")
    assert done.code == 1, done.stderr
    jsonschema.validate(json.loads(done.stdout), schema())
    assert "there are no samples: judged from sketches" in reasons(done.stdout)["validity.sketched"]
    assert (folder / "verdict.json").read_text() == done.stdout
    assert call("judge", folder, "--json").stdout == done.stdout


def test_samples_that_are_there_come_first(tmp_path: Path, call: Call) -> None:
    folder = run(tmp_path / "run")
    pq.write_table(WORLD.samples(), folder / "samples.parquet")
    done = call("judge", folder, "--json")
    assert done.code == 1
    assert "validity.sketched" not in reasons(done.stdout)


def test_its_report(tmp_path: Path, call: Call) -> None:
    folder = run(tmp_path / "run")
    assert call("judge", folder).code == 1
    done = call("report", folder)
    assert done.code == 0, done.stderr
    assert "ttft p50 is " in (folder / "report.md").read_text()


def test_two_bare_files(tmp_path: Path, call: Call) -> None:
    """Without a plan: paired where most have a partner, the gates are the default ones."""
    done = call("judge", files(tmp_path / "bare") / "sketches.parquet", "--json")
    assert done.code == 1
    found = reasons(done.stdout)
    assert set(found) >= {"errors", "ttft.p50", "tpot.p50", "validity.sketched"}
    assert "candidate" in json.loads(done.stdout)["reason"]


def test_a_bare_folder_and_rules(tmp_path: Path, call: Call) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("gates:\n  - {metric: response_time.p90, margin: 60%}\n")
    done = call("judge", files(tmp_path / "bare"), "--rules", rules, "--json")
    assert done.code == 0, done.stdout
    assert "response_time.p90" in reasons(done.stdout)


@pytest.mark.parametrize("option", [("--looks", "10s"), ("--second-opinion", "kayenta")])
def test_what_takes_samples_says_so(option: tuple[str, str], tmp_path: Path, call: Call) -> None:
    done = call("judge", run(tmp_path / "run"), *option)
    assert (done.code, done.stdout) == (2, "")
    assert "--looks and --second-opinion take samples, and this recording has sketches only" in done.stderr


def test_sketches_without_their_sums(tmp_path: Path, call: Call) -> None:
    folder = files(tmp_path / "bare")
    (folder / "sums.parquet").unlink()
    done = call("judge", folder / "sketches.parquet")
    assert (done.code, done.stdout) == (2, "")
    assert "sketches.parquet: is a file of sketches; expected sums.parquet with their sums beside it" in done.stderr


def test_sums_of_other_sketches(tmp_path: Path, call: Call) -> None:
    folder = files(tmp_path / "bare")
    other = World(seed=3).as_sketches()
    pq.write_table(other.sums, folder / "sums.parquet")
    done = call("judge", folder / "sketches.parquet")
    assert (done.code, done.stdout) == (2, "")
    assert "sketches.parquet: has " in done.stderr
    assert "the sums beside it are of " in done.stderr


def test_very_many_samples_are_counted(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """And judged as they would be one by one."""
    path = tmp_path / "samples.parquet"
    pq.write_table(WORLD.samples(), path)
    exact = call("judge", path, "--json")
    monkeypatch.setattr(judging, "MOST_SAMPLES", 1000)
    monkeypatch.setattr(sketched, "MOST_SAMPLES", 1000)
    done = call("judge", path, "--json")
    assert done.code == exact.code == 1
    assert "they were counted in bins of 0.1 %" in reasons(done.stdout)["validity.sketched"]
    outcomes = [{f["metric"]: f["outcome"] for f in json.loads(one.stdout)["findings"]} for one in (exact, done)]
    assert {k: v for k, v in outcomes[1].items() if k != "validity.sketched"} == outcomes[0]
    looked = call("judge", path, "--looks", "30s")
    assert looked.code == 1
    assert "30 s" in looked.stdout
