"""Whether the experiment is one: each unit with its own arm, and as many units with either as was planned.

Where it is not, no effect of it means anything: users who saw both arms, or who were lost from one of them, are not
those who were dealt out (Fabijan et al., Diagnosing Sample Ratio Mismatch, KDD 2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.judge import words
from harness.judge.columns import OK, Floats, Ints
from harness.judge.operations.ab.rows import NOBODY, SEVERAL, A, B, Rows
from harness.judge.operations.facts import amount, fact, names
from harness.judge.statistics.distributions import binomial_p, t_sf
from harness.types import Finding, Outcome

Facts = Mapping[str, Any]
ALPHA = 0.001
"""Of each check of what should be so by chance: an experiment that is sound fails it once in a thousand."""
LEAST_UNITS = 20


def assignment(rows: Rows, observations: Facts) -> list[Finding]:
    """`assignment.honoured`, `.sticky`, `.ratio` and `.activity`."""
    if not len(rows):
        return [
            fact(f"assignment.{one}", "no data", "No request was seen")
            for one in ("honoured", "sticky", "ratio", "activity")
        ]
    return [
        _honoured(rows, observations),
        _sticky(rows),
        _ratio(rows, float(observations["split"])),
        _activity(rows),
    ]


def _honoured(rows: Rows, observations: Facts) -> Finding:
    metric = "assignment.honoured"
    told = rows.answered != NOBODY
    wrong = told & (rows.answered != rows.arm)
    ok = rows.columns.status == OK
    if wrong.any():
        units = len(np.unique(rows.unit[wrong]))
        parts = [
            f"{int((wrong & (rows.arm == arm)).sum()):,} of {int((told & (rows.arm == arm)).sum()):,} answers to "
            f"{name}'s units are not {name}'s"
            for arm, name in ((A, "A"), (B, "B"))
            if (wrong & (rows.arm == arm)).any()
        ]
        contradict = int((rows.answered == SEVERAL).sum())
        more = f"; {contradict:,} answers name an arm and the other's version" if contradict else ""
        said = f"{' and '.join(parts)} ({amount(units, 'unit')}){more}"
        header = observations["header"]
        return fact(metric, "fail", f"The assignment was not honoured: {said}: what routes does not go by {header}")
    if not ok.any():
        return fact(metric, "no data", "No request was answered")
    silent = int((ok & ~told).sum())
    if silent:
        return fact(
            metric, "no data",
            f"{silent} of {amount(int(ok.sum()), 'answer')} do not say which arm they are from: neither by a version "
            "that only one arm has, nor by a header of the ingress",
        )  # fmt: skip
    said = "each arm was called at its own address" if observations["told"]["address"] else "by what the answers say"
    return fact(metric, "pass", f"All {int(told.sum()):,} answers came from the arm of their unit: {said}")


def _sticky(rows: Rows) -> Finding:
    """By the arms that answered, and by those that were assigned."""
    metric = "assignment.sticky"
    both = np.zeros(len(rows.units), np.bool_)
    for arms in (rows.arm, rows.answered):
        seen = [np.bincount(rows.unit[arms == arm], minlength=len(rows.units)) > 0 for arm in (A, B)]
        both |= seen[0] & seen[1]
    both |= np.bincount(rows.unit[rows.answered == SEVERAL], minlength=len(rows.units)) > 0
    if both.any():
        who = names(rows.units[i] for i in np.flatnonzero(both))
        return fact(metric, "fail", f"{int(both.sum())} of {amount(len(rows.units), 'unit')} saw both arms: {who}")
    return fact(metric, "pass", f"None of {len(rows.units):,} units saw both arms")


def _ratio(rows: Rows, split: float) -> Finding:
    metric = "assignment.ratio"
    unit, arm, _ = _hashed(rows)
    n, b = len(unit), int((arm == B).sum())
    labelled = len(rows.units) - n
    beside = f"; {amount(labelled, 'other unit')} came with a header" if labelled else ""
    if not n:
        return fact(metric, "no data", f"The hash assigned no unit{beside}: their clients' headers are not checked")
    p = binomial_p(b, n, split)
    said = (
        f"{b:,} of {n:,} units that the hash assigned are B's ({words.percent(b / n)}), planned were "
        f"{words.margin(split)} (exact binomial p {_p(p)}{beside})"
    )
    outcome: Outcome = "fail" if p < ALPHA else "pass"
    if outcome == "fail":
        said = f"Sample ratio mismatch: {said}: units of one arm were lost, or dealt out by another rule"
    return Finding(
        metric, outcome, said, kind="watch", unit="rate", effect=b / n, margin=split, n_baseline=n - b, n_candidate=b
    )  # fmt: skip


def _activity(rows: Rows) -> Finding:
    """Requests by unit; of the units that the hash assigned. Welch's test, with what a heavy unit hides undone."""
    metric = "assignment.activity"
    _, arm, sizes = _hashed(rows)
    a, b = (sizes[arm == one].astype(np.float64) for one in (A, B))
    if min(len(a), len(b)) < LEAST_UNITS:
        said = f"{len(a)} of A and {len(b)} of B are too few units to compare how active they are"
        return fact(metric, "no data" if not len(a) + len(b) else "pass", said)
    p = _welch(a, b)
    said = f"{words.number(float(a.mean()))} requests a unit of A, {words.number(float(b.mean()))} of B (p {_p(p)})"
    if p < ALPHA:
        return fact(metric, "fail", f"Requests of one arm are missing: {said}")
    return fact(metric, "pass", f"{said[:1].upper()}{said[1:]}")


def _hashed(rows: Rows) -> tuple[Ints, Ints, Ints]:
    """Units that the hash assigned, the arm of each (that of its first request), and how many requests it sent."""
    unit, first, sizes = np.unique(rows.unit[rows.hashed], return_index=True, return_counts=True)
    return unit, rows.arm[rows.hashed][first], sizes


def _welch(a: Floats, b: Floats) -> float:
    """Two-sided."""
    parts = [one.var(ddof=1) / len(one) for one in (a, b)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return 1.0 if a.mean() == b.mean() else 0.0
    df = sum(parts) ** 2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, (a, b), strict=True))
    return min(1.0, 2 * t_sf(abs(float(a.mean() - b.mean())) / error, float(df)))


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 else "<0.0001"
