"""A second opinion: what Kayenta's judge would have said of the same recording, and why it agrees with ours or not.

It changes no verdict. Kayenta sees points of a metrics store, not requests (`points`), applies its own rules with their
defaults (`rules`), and each answer is held against our findings (`reasons`). Choices that its users make, made here as
they usually do: worse is higher for times and errors, `errors` is critical, groups weigh the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from harness.judge.evidence import Evidence
from harness.judge.kayenta.points import COMPARES, POINT_S, series
from harness.judge.kayenta.reasons import Case, reason
from harness.judge.kayenta.rules import MARGINAL, NAME, PASS, Classified, Config, Direction, Score, classify, score
from harness.judge.metrics import LOWER_IS_WORSE, is_latency
from harness.judge.view import StageView
from harness.types import MetricOpinion, SecondOpinion, Verdict

_SAME = {"pass": "promote", "marginal": "inconclusive", "fail": "rollback"}


def second_opinion(evidence: Evidence, verdict: Verdict) -> SecondOpinion:
    """On the gates of `evidence`, over all stages that compare and both arms of which the plan gives requests.

    `verdict`: ours of the same evidence. Samples after a stage was decided are not shown to Kayenta either.
    """
    views = [StageView.of(evidence, record.plan.index, None) for record in evidence.stages]
    shown = [v for v in views if v.plan.purpose == COMPARES and {"baseline", "candidate"} <= set(v.plan.shares)]
    cases, left_out = [], []
    for gate in evidence.rules:
        points = series(shown, gate.metric)
        if points is None:
            left_out.append(gate.metric)
            continue
        noise = np.random.default_rng(evidence.seed & 0xFFFFFFFF)
        found = classify(points.baseline, points.candidate, _config(gate.metric), noise)
        ours = [f for f in verdict.findings if f.metric == gate.metric and f.kind != "validity"]
        cases.append(Case(gate.metric, points, found, ours, frozenset(v.index for v in shown), _shares(shown)))
    whole = score([(case.metric, _group(case.metric), case.found) for case in cases])
    return SecondOpinion(
        judge=NAME,
        verdict=whole.classification,
        score=whole.score,
        agrees=_SAME[whole.classification] == verdict.verdict,
        reason=_whole(whole, cases, verdict),
        metrics=tuple(_opinion(case) for case in cases),
        groups=whole.groups,
        left_out=tuple(left_out),
        point_s=POINT_S,
        pass_from=PASS,
        marginal_from=MARGINAL,
    )


def _config(metric: str) -> Config:
    direction: Direction = "either" if metric == "osl" else "decrease" if metric in LOWER_IS_WORSE else "increase"
    return Config(direction=direction, critical=metric == "errors")


def _group(metric: str) -> str:
    return "latency" if is_latency(metric) else "errors" if metric == "errors" else "output"


def _shares(shown: Iterable[StageView]) -> tuple[float, float]:
    """Of the stage in which the arms' shares differ most."""
    shares = [(view.plan.shares["baseline"], view.plan.shares["candidate"]) for view in shown]
    return max(shares, key=lambda both: abs(both[0] - both[1]), default=(0.5, 0.5))


def _opinion(case: Case) -> MetricOpinion:
    found: Classified = case.found
    return MetricOpinion(
        metric=case.metric,
        label=found.label,
        ours=case.outcome,
        agrees=case.agrees,
        reason=reason(case),
        group=_group(case.metric),
        critical=_config(case.metric).critical,
        points=(len(case.known[0]), len(case.known[1])),
        unit=case.points.unit,
        ratio=None if math.isnan(found.ratio) else found.ratio,
        estimate=found.shift.estimate if found.shift else None,
        z=case.z if found.shift else None,
        interval=(found.shift.low, found.shift.high) if found.shift else None,
    )


def _whole(whole: Score, cases: Sequence[Case], verdict: Verdict) -> str:
    """Whether the two verdicts are the same and, if not, why, in a sentence."""
    own = f"its {whole.classification}{f' ({whole.reason})' if whole.reason else ''}"
    if _SAME[whole.classification] == verdict.verdict:
        return f"{own} agrees with our {verdict.verdict}"
    return f"{own} does not agree with our {verdict.verdict}, {_difference(cases, verdict)}"


def _difference(cases: Sequence[Case], verdict: Verdict) -> str:
    labels = {case.metric: case.found.label for case in cases}
    if verdict.verdict == "promote":
        against = [f"{metric} is {label}" for metric, label in labels.items() if label != "Pass"]
        return f"for there {', '.join(against)}"
    wanted = ("fail",) if verdict.verdict == "rollback" else ("inconclusive", "no data")
    telling = [f for f in verdict.findings if f.outcome in wanted and (f.kind == "validity" or f.margin is not None)]
    rest = list(dict.fromkeys(f.metric for f in telling))
    if not rest:
        return f"whose reason is: {verdict.reason}"
    known = [f"{metric} ({f'there {labels[metric]}' if metric in labels else 'no series there'})" for metric in rest]
    return f"which rests on {', '.join(known)}"
