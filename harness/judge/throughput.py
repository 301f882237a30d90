"""What is reported and never decides: output lengths, and what either arm got through."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.judge import words
from harness.judge.columns import OK, Columns
from harness.judge.times import lengths
from harness.judge.view import StageView
from harness.types import Finding


def information(view: StageView, *, drift: bool) -> Iterator[Finding]:
    """`osl` drift (where `drift` and no gate says so), request and output token throughput of both arms."""
    tokens = tuple(lengths(arm) for arm in view.arms)
    some = all(bool((t > 0).any()) for t in tokens)
    if drift and some:
        one, two = (float(np.nanmean(t)) for t in tokens)
        ratio = two / one
        text = f"answers are {_longer(ratio)} on {view.names[1]} ({two:.1f} tokens against {one:.1f})"
        yield _finding(view, "osl", "ratio", one, two, text, ratio)
    if not any(len(arm) for arm in view.arms):
        return
    one, two = (_answered(arm) / view.elapsed_s for arm in view.arms)
    text = f"{two:.3g} answers a second on {view.names[1]}, {one:.3g} on {view.names[0]}"
    yield _finding(view, "request_throughput", "1/s", one, two, text)
    if some:
        one, two = (float(np.nansum(t)) / view.elapsed_s for t in tokens)
        text = f"{two:.3g} output tokens a second on {view.names[1]}, {one:.3g} on {view.names[0]}"
        yield _finding(view, "output_token_throughput", "1/s", one, two, text)


def _answered(arm: Columns) -> int:
    return int((arm.status == OK).sum())


def _longer(ratio: float) -> str:
    if round(abs(ratio - 1) * 1000) == 0:
        return "as long"
    return f"{words.percent(abs(ratio - 1))} {'longer' if ratio > 1 else 'shorter'}"


def _finding(
    view: StageView, metric: str, unit: str, one: float, two: float, text: str, effect: float | None = None
) -> Finding:
    return Finding(
        metric=metric,
        outcome="pass",
        reason=f"for information: {text}",
        kind=view.role,
        stage=view.index,
        unit=unit,
        effect=effect,
        baseline=one,
        candidate=two,
        n_baseline=len(view.baseline),
        n_candidate=len(view.candidate),
    )
