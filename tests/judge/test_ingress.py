"""What is judged of requests that went through an ingress: who had them, how they were split, and the way back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import ROUTED, Evidence, judge_stage
from harness.judge.evidence import Ingress
from harness.recording.schema import READINGS
from harness.types import Finding, Gate, Reading, Sample, StageRecord, StageVerdict
from tests.judge.worlds import VERSIONS, S, bulk, plan, sample, table

ERRORS = Gate("errors.objective", limit=0.05)
END_S = 40.0


def split(
    *more: Sample, candidates: int = 400, of: int = 800, share: float = 0.5, turns: bool = False, foreign: int = 0,
    routed: bool = True, settled_ns: int | None = None,
) -> StageVerdict:  # fmt: skip
    """40 s at 20/s, of which the candidate got `candidates`; `foreign` requests of others went through meanwhile."""
    due = np.linspace(0, END_S - 0.05, of)
    mine = np.zeros(of, bool)
    mine[:candidates] = True
    mine = np.random.default_rng(1).permutation(mine)
    parts = [
        bulk(arm, due[rows], np.full(int(rows.sum()), 0.005))
        for arm, rows in (("candidate", mine), ("baseline", ~mine))
    ]
    counts = [
        Reading(t, "ingress", arm, ROUTED, float(value), "1")
        for t, scale in ((-1, 0), (int(END_S * S) + 1, 1))
        for arm, value in (("baseline", 7 + scale * (of - candidates + foreign)), ("candidate", 3 + scale * candidates))
    ]
    stage = plan(0, "split", END_S, share, rate=20.0, routed=routed)
    evidence = Evidence.from_tables(
        pa.concat_tables([*parts, table(more)]), stages=[StageRecord(stage, 0, end_ns=int(END_S * S))], gates=[ERRORS],
        versions=VERSIONS, readings=table(counts, READINGS), ingress=Ingress(turns=turns), settled_ns=settled_ns,
    )  # fmt: skip
    return judge_stage(evidence, 0)


def found(verdict: StageVerdict, metric: str) -> Finding | None:
    return next((one for one in verdict.findings if one.metric == metric), None)


def nobodys(number: int, t_s: float, status: str = "refused") -> Sample:
    return sample("unknown", 90_000 + number, t_s, 0.01, status=status, error="connection refused", version="")


def test_a_split_that_is_as_planned_passes() -> None:
    for turns in (False, True):
        verdict = split(turns=turns)
        assert verdict.verdict == "promote", verdict.reason


@pytest.mark.parametrize(
    ("candidates", "turns", "foreign", "fits"),
    [
        (430, False, 0, True),  # by chance: 2.1 standard deviations
        (460, False, 0, False),
        (406, True, 0, True),
        (407, True, 0, False),  # in turns that is no chance
        (800, True, 800, True),  # others took turns, too: all of ours may be the same arm's
        (430, True, 500, False),  # but what the ingress gave is not what it was told
    ],
)
def test_the_test_fits_the_ingress(candidates: int, turns: bool, foreign: int, fits: bool) -> None:
    verdict = split(candidates=candidates, turns=turns, foreign=foreign)
    fault = found(verdict, "validity.share")
    assert (fault is None) == fits
    assert (verdict.verdict == "promote") == fits


def test_an_ingress_that_ignores_the_split_never_promotes() -> None:
    verdict = split(candidates=0, share=0.5)
    assert verdict.verdict == "inconclusive"
    assert found(verdict, "validity.share") is not None


@pytest.mark.parametrize(("unknown", "verdict"), [(0, "promote"), (2, "promote"), (3, "inconclusive")])
def test_requests_of_which_nobody_says_who_had_them(unknown: int, verdict: str) -> None:
    """Up to a tenth of what its gate allows the candidate: they might all be its failures."""
    judged = split(*(nobodys(number, 1.0 + number) for number in range(unknown)))
    assert judged.verdict == verdict, judged.reason
    fault = found(judged, "validity.attribution")
    if verdict == "inconclusive":
        assert fault is not None
        assert fault.reason.startswith("3 requests through the ingress name nobody who had them, 3 of them failed")


def test_one_is_too_many_where_the_candidate_has_few() -> None:
    judged = split(nobodys(0, 1.0), candidates=80, share=0.1)
    assert judged.verdict == "inconclusive"


def test_a_failing_candidate_is_rolled_back_whatever_is_wrong_with_the_split() -> None:
    bad = [sample("candidate", 80_000 + n, n / 10, 0.01, status="error", error="http 500") for n in range(200)]
    judged = split(*bad, candidates=200, share=0.5)
    assert judged.verdict == "rollback"


def test_how_fast_a_rollback_was() -> None:
    bad = [sample("candidate", 80_000 + n, 30 + n / 10, 0.01, status="error", error="http 500") for n in range(60)]
    judged = split(*bad, settled_ns=int(31.5 * S))
    back = found(judged, "traffic.rollback")
    assert back is not None
    assert back.effect == pytest.approx(1.49, abs=0.001)
    assert "1.49 s after the first bad answer of v2; from then on none of" in back.reason
    assert found(split(settled_ns=int(31.5 * S)), "traffic.rollback") is None, "nothing was bad"
    assert found(split(*bad), "traffic.rollback") is None, "nothing was rolled back"


def test_requests_that_the_baseline_lost_in_a_rollback_are_told() -> None:
    bad = [sample("candidate", 80_000 + n, 30 + n / 10, 0.01, status="error", error="http 500") for n in range(60)]
    lost = sample("baseline", 95_000, 33.0, 0.01, status="error", error="http 503")
    back = found(split(*bad, lost, settled_ns=int(31.5 * S)), "traffic.rollback")
    assert back is not None
    assert "1 of" in back.reason.partition("from then on ")[2]
