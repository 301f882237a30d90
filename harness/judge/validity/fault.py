"""A fault of the measurement, and how far it reaches: what it makes worthless, and what stays true in spite of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.judge.columns import BASELINE, CANDIDATE
from harness.judge.metrics import THROUGHPUT, is_latency, quantile_of
from harness.judge.view import StageView
from harness.types import Finding

Voids = Callable[[Finding], bool]
"""Whether a failed finding says nothing any more."""

MAX_SPOILT = 0.05
# What counts whatever is wrong with the measurement.
WHATEVER = ("traffic.strays", "deploy.errors", "errors", "errors.objective", "quality.broken", "recovery")


@dataclass(frozen=True, slots=True)
class Fault:
    """`voids`: the failures that it makes worthless. `stops`: with it the stage cannot say promote.

    One that stops nothing and voids nothing that failed only informs.
    """

    finding: Finding
    voids: Voids
    stops: bool = True


def fault(
    view: StageView, metric: str, reason: str, *, missing: bool = False, voids: Voids | None = None, stops: bool = True
) -> Fault:
    """A fault called `validity.<metric>`; by default it voids everything but WHATEVER."""
    finding = Finding(
        metric=f"validity.{metric}",
        outcome="no data" if missing else "inconclusive",
        reason=reason,
        kind="validity",
        stage=view.index,
        n_baseline=view.asked(BASELINE),
        n_candidate=view.asked(CANDIDATE),
    )
    return Fault(finding, voids or measured, stops)


def informs(view: StageView, metric: str, reason: str) -> Fault:
    """Worth knowing, and without consequence."""
    return fault(view, metric, reason, voids=nothing, stops=False)


def room(view: StageView) -> float:
    """The share of requests that may be spoilt: as many as lie above the highest gated quantile, 5 % at most."""
    quantiles = [quantile_of(gate.metric) or 0.0 for gate in view.evidence.rules if is_latency(gate.metric)]
    return min(MAX_SPOILT, 1 - max(quantiles, default=0.0))


def everything(failed: Finding) -> bool:
    """The server counts strays: nothing that is wrong with samples voids them."""
    return failed.metric != "traffic.strays"


def measured(failed: Finding) -> bool:
    """A candidate that fails its requests must not keep its traffic, whatever is wrong with the measurement."""
    return failed.metric not in WHATEVER


def times(failed: Finding) -> bool:
    """And what follows from how fast answers are."""
    return is_latency(failed.metric) or failed.metric in (*THROUGHPUT, "energy")


def ratios(failed: Finding) -> bool:
    """Times of one arm relative to the other's; those against an absolute limit stay true."""
    return is_latency(failed.metric) and failed.unit == "ratio"


def objectives(failed: Finding) -> bool:
    """Times of one arm against an absolute number."""
    return is_latency(failed.metric) and failed.unit == "s"


def nothing(_: Finding) -> bool:
    return False
