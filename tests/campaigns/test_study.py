"""The study's short cut is the judge, its tables say what was counted, and it goes on where it was stopped."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, judge_stage
from harness.types import Gate, StagePlan, StageRecord
from tests.campaigns.study import __main__ as study
from tests.campaigns.study.cells import Row, rows
from tests.campaigns.study.decide import Seen, promoted, rolled_back
from tests.campaigns.study.tables import Rates, render, worst
from tests.campaigns.study.worlds import SECONDS, WORLDS, Arms, queueing
from tests.judge.worlds import S, bulk


def judged(arms: Arms, gate: Gate, seed: int) -> str:
    """The outcome of the gate at the end of the stage, by the judge itself."""
    first, second = (
        bulk(arm, due, took, np.arange(len(due)) * (1 if arms.paired else 2) + (0 if arms.paired else number))
        for number, (arm, due, took) in enumerate(zip(("baseline", "candidate"), arms.due, arms.took, strict=True))
    )
    mode = "paired" if arms.paired else "interleaved"
    plan = StagePlan(0, mode, "poisson", SECONDS, 0.5, rate=len(arms.due[0]) / SECONDS * (1 if arms.paired else 2))
    end = round((SECONDS + 20) * S)
    evidence = Evidence.from_tables(
        pa.concat_tables([first, second]), stages=[StageRecord(plan, 0, end_ns=end, decided_ns=end)], gates=[gate],
        seed=seed,
    )  # fmt: skip
    return next(f.outcome for f in judge_stage(evidence, 0).findings if f.metric == gate.metric)


@pytest.mark.parametrize("quantile", [0.5, 0.99])
@pytest.mark.parametrize("ratio", [1.0, 1.05, 1.3])
@pytest.mark.parametrize("paired", [False, True])
def test_the_short_cut_is_the_judge(quantile: float, ratio: float, paired: bool) -> None:
    rng = np.random.default_rng(round(1000 * ratio) + paired)
    arms = queueing(rng, ratio, together=True) if paired else WORLDS["autocorrelated"](rng, ratio)
    seen = Seen.of(arms, quantile, 1)
    metric = f"response_time.p{round(100 * quantile)}"
    real = judged(arms, Gate(metric, margin=0.10), 1)
    assert (real == "pass") == promoted(seen, 0.10)
    last = [(len(seen.differences), 1.0)]
    end = Seen(seen.arms, seen.blocks, quantile, seen.differences, 1)
    object.__setattr__(end, "looks", lambda: last)
    assert (real == "fail") == (rolled_back(end, 0.10) is not None)


def test_a_candidate_that_takes_longer_is_the_same_arms_stretched() -> None:
    arms = WORLDS["iid"](np.random.default_rng(2))
    slower = Arms(arms.due, (arms.took[0], 1.2 * arms.took[1]))
    one, two = Seen.of(arms, 0.5, 1).times(1.2), Seen.of(slower, 0.5, 1)
    assert one.differences == pytest.approx(two.differences)
    assert one.whole(30).effect == pytest.approx(two.whole(30).effect)


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_worlds_have_the_ratio_that_they_are_asked_for(world: str) -> None:
    ratios = []
    for seed in range(6):
        arms = WORLDS[world](np.random.default_rng(seed), 1.5)
        ratios.append(math.log(np.median(arms.took[1]) / np.median(arms.took[0])))
        assert all((np.diff(due) >= 0).all() for due in arms.due)
        assert len(arms.due[0]) == pytest.approx(15_000, rel=0.1)
    assert np.mean(ratios) == pytest.approx(math.log(1.5), abs=0.15)


def fair(seed: int) -> dict[str, object]:
    return {"heads": seed % 2 == 0, "seconds": float(seed) if seed % 2 else None}


def test_rates_have_exact_intervals() -> None:
    rates = Rates.of([fair(seed) for seed in range(40)])
    assert rates.show("heads") == "50.0 (33.8 to 66.2)"
    assert rates.seconds("seconds") == "20"


def test_every_row_of_the_study_is_in_its_tables() -> None:
    found = {row.name: Rates.of([row.cell(0)]) for row in rows()}
    text = render(found)
    for name in found:
        assert name.partition(": ")[2] in text
    worst_cells = json.loads(json.dumps(worst(found)))
    assert worst_cells["false_rollback"][0] in (0.0, 1.0)


def test_what_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    row = Row("a: row, of 2 %", lambda seed: made.append(seed) or fair(seed))
    monkeypatch.setattr(study, "rows", lambda: [row])
    for _ in range(2):
        if not study._path(tmp_path, row.name, 0).exists():
            study._work((row.name, 0, 3, tmp_path))
    assert made == [0, 1, 2]
    assert len(study._read(tmp_path, row.name, 3, 3)) == 3
    assert not list(tmp_path.glob("*.tmp"))
