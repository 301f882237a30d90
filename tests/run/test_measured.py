"""When a run is made once more, and when it is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.judge import validity
from tests.run.measured import OF_DRAWS, TRIES, last_folder, measured


def ended(out: Path, verdict: str, metric: str, outcome: str = "inconclusive", error: str = "") -> Path:
    folder = out / "run"
    folder.mkdir(parents=True)
    findings = [{"metric": metric, "outcome": outcome}]
    (folder / "verdict.json").write_text(json.dumps({"verdict": verdict, "findings": findings}))
    (folder / "run.json").write_text(json.dumps({"outcome": {"error": error, "not_put_back": []}}))
    return out


def test_the_judge_knows_these_faults() -> None:
    sources = "".join(path.read_text() for path in Path(validity.__file__).parent.glob("*.py"))
    known = {f"validity.{name}" for name in re.findall(r'fault\(\s*view,\s*"([\w-]+)"', sources)}
    assert set(OF_DRAWS) <= known


def test_a_machine_that_was_busy_is_asked_again(tmp_path: Path) -> None:
    verdicts = iter(["inconclusive", "promote"])
    measured(lambda out: ended(out, next(verdicts), "validity.generator"), tmp_path)
    assert last_folder(tmp_path) == tmp_path / "1" / "run"


def test_in_the_end_it_is_what_it_is(tmp_path: Path) -> None:
    assert measured(lambda out: ended(out, "inconclusive", "validity.lag"), tmp_path) == tmp_path / str(TRIES - 1)


@pytest.mark.parametrize(
    "told",
    [
        ("rollback", "validity.lag"),
        ("inconclusive", "validity.workers"),
        ("inconclusive", "validity.share"),
        ("inconclusive", "validity.lag", "pass"),
        ("inconclusive", "validity.lag", "inconclusive", "Triton: gone"),
    ],
)
def test_whatever_else_is_wrong_is_no_reason(tmp_path: Path, told: tuple[str, ...]) -> None:
    assert measured(lambda out: ended(out, *told), tmp_path) == tmp_path / "0"


def test_a_run_under_way_is_none_that_was_busy(tmp_path: Path) -> None:
    assert measured(lambda out: out, tmp_path) == tmp_path / "0"
