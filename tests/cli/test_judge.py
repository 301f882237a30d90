"""judge --looks and --second-opinion: what they print, and that neither touches the verdict of a run."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.judge import schema
from harness.recording import write_observations
from tests.cli.conftest import Call
from tests.judge.worlds import bulk
from tests.report import factory


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's samples: a candidate that is 40 % slower, 300 s."""
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("judge") / "samples.parquet"
    due = np.sort(rng.uniform(0, 300, (2, 3000)), axis=1)
    took = 0.05 * np.exp(rng.normal(0, 0.3, (2, 3000))) * np.array([[1.0], [1.4]])
    pq.write_table(pa.concat_tables(map(bulk, ("baseline", "candidate"), due, took)), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of several stages."""
    run = factory.recording()
    (tmp_path / "run.json").write_text(json.dumps(run.meta))
    for name in ("samples", "outputs", "readings"):
        pq.write_table(getattr(run, name), tmp_path / f"{name}.parquet")
    return tmp_path


def test_the_trail_of_looks_and_when_it_was_decided(samples: Path, call: Call) -> None:
    once, looked = call("judge", samples), call("judge", samples, "--looks", "10s")
    assert once.code == looked.code == 1
    assert "; decided after" not in once.stdout
    assert "; decided after " in looked.stdout
    assert " s of 300 s" in looked.stdout
    assert "✗ rollback" in looked.stdout.splitlines()[-2]
    assert " looks, of which each saw what was done by then:" in looked.stdout


def test_the_looks_in_json(samples: Path, call: Call) -> None:
    done = call("judge", samples, "--looks", "30s", "--json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema())
    assert "; decided after " in document["reason"]
    assert document["exit_code"] == done.code == 1


@pytest.mark.parametrize("step", ["10", "soon", "", "0s", "200ms", "-5s"])
def test_a_step_that_is_none(samples: Path, call: Call, step: str) -> None:
    done = call("judge", samples, f"--looks={step}")
    assert done.code == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"triton-canary: --looks {step}: expected ")


def test_a_question_is_no_verdict_of_the_run(folder: Path, call: Call) -> None:
    """verdict.json stays as the run left it; a second opinion is in none."""
    (folder / "verdict.json").write_text("as it was")
    call("judge", folder, "--looks", "10s")
    assert (folder / "verdict.json").read_text() == "as it was"
    plain = call("judge", folder, "--json").stdout
    assert (folder / "verdict.json").read_text() == plain
    call("judge", folder, "--second-opinion", "kayenta")
    assert (folder / "verdict.json").read_text() == plain


def test_a_second_opinion_changes_nothing(samples: Path, folder: Path, call: Call) -> None:
    for path in (samples, folder):
        plain, second = (call("judge", path, "--json", *more) for more in ((), ("--second-opinion", "kayenta")))
        document = json.loads(second.stdout)
        jsonschema.validate(document, schema())
        opinion = document.pop("second_opinion")
        assert document == json.loads(plain.stdout)
        assert plain.code == second.code
        assert opinion["judge"] == "NetflixACAJudge-v1.0"
        assert opinion["metrics"]


def test_a_second_opinion_in_the_terminal(samples: Path, call: Call) -> None:
    done = call("judge", samples, "--second-opinion", "kayenta")
    assert done.code == 1
    assert "second opinion: NetflixACAJudge-v1.0 says " in done.stdout
    assert "score 50 (pass from 95, marginal from 75)" in done.stdout
    assert "Its fail agrees with our rollback" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("response_time.p50")]
    assert rows[0][:5] == ["response_time.p50", "High", "✗", "fail", "60"]
    assert "= response_time.p50: both see a difference: 60 points an arm differ by z = " in done.stdout


def test_the_opinion_is_of_what_the_looks_saw(samples: Path, call: Call) -> None:
    document = json.loads(call("judge", samples, "--looks", "60s", "--second-opinion", "kayenta", "--json").stdout)
    after = float(document["reason"].rpartition("decided after ")[2].split(" s")[0])
    assert after < 300
    assert document["second_opinion"]["metrics"][0]["points"] == [after / 5] * 2


def test_another_judge_is_named(samples: Path, call: Call) -> None:
    done = call("judge", samples, "--second-opinion", "flagger")
    assert done.code == 2
    assert "kayenta" in done.stderr


def test_operations_compare_no_arms(tmp_path: Path, call: Call) -> None:
    write_observations(tmp_path, {"kind": "repo-sync"})
    for flags in (("--looks", "10s"), ("--second-opinion", "kayenta")):
        done = call("judge", tmp_path, *flags)
        assert done.code == 2
        assert "is an operation" in done.stderr
