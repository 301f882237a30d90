"""Whether the measurement can be trusted. A finding here never fails: it makes a stage inconclusive."""

from __future__ import annotations

import numpy as np
from scipy import stats

from harness.judge import words
from harness.judge.columns import ARMS, BASELINE, CANCELLED, CANDIDATE, OK
from harness.judge.failures import busy_baseline, tally
from harness.judge.view import StageView
from harness.types import Finding

MAX_LOST = 0.10
SHARE_ALPHA = 0.001
GAP_SHARE, GAP_S = 0.25, 5.0


def check(view: StageView) -> tuple[Finding, ...]:
    """What is wrong with this stage's measurement; () if nothing is."""
    found = (
        _version(view),
        _nothing(view),
        _share(view),
        _pairs(view),
        _duplicates(view),
        _clock(view),
        _workers(view),
        _baseline(view),
        _scores(view),
    )
    return tuple(finding for finding in found if finding is not None)


def _finding(view: StageView, metric: str, reason: str, *, missing: bool = False) -> Finding:
    return Finding(
        metric=f"validity.{metric}",
        outcome="no data" if missing else "inconclusive",
        reason=reason,
        kind="validity",
        stage=view.index,
        n_baseline=len(view.baseline),
        n_candidate=len(view.candidate),
    )


def _version(view: StageView) -> Finding | None:
    """The version is the one that the response named, not the one that was asked for."""
    samples = view.samples
    for arm in (BASELINE, CANDIDATE):
        wanted = view.evidence.versions.get(ARMS[arm])
        if not wanted:
            continue
        other = [i for i, name in enumerate(samples.version_names) if name not in ("", wanted)]
        answered = (samples.arm == arm) & (samples.status == OK)
        wrong = answered & np.isin(samples.version, other)
        if wrong.any():
            name = samples.version_names[samples.version[np.flatnonzero(wrong)[0]]]
            return _finding(
                view,
                "version",
                f"{int(wrong.sum())} of {int(answered.sum())} answers that the plan gave to {ARMS[arm]} "
                f"(version {wanted}) came from version {name}: nothing can be said of either",
            )
    return None


def _nothing(view: StageView) -> Finding | None:
    if len(view.baseline) + len(view.candidate):
        return None
    return _finding(view, "requests", "no request of this stage came to an end", missing=True)


def _share(view: StageView) -> Finding | None:
    """The observed split against the planned one, at 99.9 %."""
    n1, n2 = len(view.baseline), len(view.candidate)
    share = view.plan.candidate_share
    if n1 + n2 == 0 or (view.plan.mode == "paired" and not view.final):
        return None
    if share in (0.0, 1.0):
        unlikely = n1 > 0 if share == 1.0 else n2 > 0
    else:
        unlikely = float(stats.binomtest(n2, n1 + n2, share).pvalue) < SHARE_ALPHA
    if not unlikely:
        return None
    return _finding(
        view,
        "share",
        f"{view.names[1]} got {words.percent(n2 / (n1 + n2))} of requests ({n2} of {n1 + n2}), planned were "
        f"{words.percent(share)}: the split is not the one of the plan",
    )


def _pairs(view: StageView) -> Finding | None:
    """Pairs lost for other reasons than an arm's failure: a partner missing, or cancelled."""
    if view.plan.mode != "paired" or not view.final:
        return None
    kept = [arm.pair_id[arm.status != CANCELLED] for arm in view.arms]
    every = np.union1d(view.baseline.pair_id, view.candidate.pair_id).size
    whole = np.intersect1d(*kept).size
    if every == 0 or every - whole <= MAX_LOST * every:
        return None
    return _finding(
        view,
        "pairs",
        f"{every - whole} of {every} pairs are not whole (a partner is missing or was cancelled); at most "
        f"{words.percent(MAX_LOST)} may be",
    )


def _duplicates(view: StageView) -> Finding | None:
    if view.plan.mode != "paired":
        return None
    twice = sum(len(arm) - np.unique(arm.pair_id).size for arm in view.arms)
    total = sum(len(arm) for arm in view.arms)
    if twice <= 0.01 * total:
        return None
    return _finding(view, "pairs", f"{twice} of {total} requests repeat the pair id of another of the same arm")


def _clock(view: StageView) -> Finding | None:
    samples = view.samples
    known = samples.sent_ns >= 0
    wrong = (samples.done_ns < samples.due_ns) | (known & (samples.done_ns < samples.sent_ns))
    wrong |= (samples.first_ns >= 0) & (samples.first_ns > samples.done_ns)
    count = int(wrong.sum())
    if count <= 0.001 * len(samples):
        return None
    return _finding(
        view,
        "clock",
        f"{count} of {len(samples)} requests ended before they began: a clock was set while measuring",
    )


def _workers(view: StageView) -> Finding | None:
    """A load worker that fell silent while others went on, or began long after them."""
    samples = view.samples
    workers = np.unique(samples.worker)
    if len(workers) < 2:
        return None
    begin, end = int(samples.due_ns.min()), int(samples.due_ns.max())
    bar = max(GAP_SHARE * (end - begin), GAP_S * 1e9)
    for worker in workers.tolist():
        due = samples.due_ns[samples.worker == worker]
        gap = max(int(due.min()) - begin, end - int(due.max()))
        if len(due) >= 10 and gap > bar:
            return _finding(view, "workers", f"load worker {worker} sent nothing for {words.duration(gap / 1e9)}")
    return None


def _baseline(view: StageView) -> Finding | None:
    first = tally(view.samples, BASELINE, view.planned_s)
    if not busy_baseline(first):
        return None
    return _finding(
        view,
        "baseline",
        f"{view.names[0]} itself fails {words.percent(first.rate)} of requests ({first.failures} of "
        f"{first.requests}): a comparison with a broken baseline says little",
    )


def _scores(view: StageView) -> Finding | None:
    """The floor cannot be measured where the baseline fails to score its own text."""
    samples = view.samples
    mine = samples.score & (samples.arm == BASELINE) & (samples.status != CANCELLED)
    failed = int((mine & samples.failed).sum())
    total = int(mine.sum())
    if failed <= MAX_LOST * total:
        return None
    return _finding(
        view,
        "scores",
        f"{view.names[0]} failed {failed} of {total} requests that score its own text: no floor is known",
    )
