"""What became of the traffic itself: did v1 answer while v2 was brought, who asked v2, and how was it split."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from harness.judge import words
from harness.judge.columns import BASELINE, CANCELLED, CANDIDATE, UNKNOWN
from harness.judge.errors.failures import most_frequent, tally_of
from harness.judge.statistics.counts import rate_lower, rate_upper
from harness.judge.statistics.intervals import ALPHA_PASS
from harness.judge.view import StageView
from harness.types import Finding, Outcome

STRAYS = "requests.stray"
"""The reading: requests so far at a device `model/version` that the run did not send; a lower bound."""
UNSEEN_S = 10.0
"""A stage whose last part, longer than this, nobody watched for strays proves nothing about them."""


def deployed(view: StageView) -> Finding:
    """`deploy.errors` of a deploy stage: v1 answers every request while v2 is brought, or the run is at fault."""
    first = tally_of(view, BASELINE)
    if view.plan.routed:
        # Nobody else was to get any, so those of which an ingress says nothing are its own.
        first += tally_of(view, UNKNOWN)
    v1, v2 = view.names
    outcome: Outcome = "pass" if view.final else "inconclusive"
    if not first.requests:
        outcome, reason = "no data", f"{v1} got no request while {v2} was brought"
    elif first.failures:
        outcome = "fail"
        reason = (
            f"{first.failures} of {words.count(first.requests, 'request')} at {v1} failed while {v2} was brought"
            f"{most_frequent(first.classes)}"
        )
    else:
        reason = f"none of {words.count(first.requests, 'request')} at {v1} failed while {v2} was brought"
    return Finding(
        metric="deploy.errors",
        outcome=outcome,
        reason=reason,
        kind="watch",
        stage=view.index,
        unit="pp",
        effect=first.rate if first.requests else None,
        margin=0.0,
        baseline=first.rate if first.requests else None,
        n_baseline=first.requests,
    )


def strays(view: StageView) -> Finding | None:
    """`traffic.strays`: requests at the candidate that the run did not send; None where nobody looked for them.

    Fails at the first one: a client that names no version is on the candidate, whatever the split says.
    """
    device = view.evidence.guarded
    if not device:
        return None
    count, last_ns = _read(view, device)
    v2 = view.names[1]
    end_ns = view.record.end_ns
    outcome: Outcome = "pass"
    if count:
        outcome = "fail"
        reason = (
            f"at least {words.count(count, 'request')} reached {v2} that this run did not send: Triton gives a request "
            "that names no version to the highest READY one"
        )
    elif last_ns is None:
        outcome, reason = "no data", f"nobody looked for requests at {v2} that this run did not send"
    elif view.final and end_ns is not None and end_ns - last_ns > UNSEEN_S * 1e9:
        unseen = words.duration((end_ns - last_ns) / 1e9)
        outcome, reason = "no data", f"for the last {unseen} nobody looked for requests at {v2} from elsewhere"
    else:
        reason = f"no request reached {v2} that this run did not send"
    return Finding(
        metric="traffic.strays",
        outcome=outcome,
        reason=reason,
        kind="watch",
        stage=view.index,
        unit="1",
        effect=float(count) if last_ns is not None else None,
        margin=0.0,
        candidate=float(count) if last_ns is not None else None,
        n_candidate=view.asked(CANDIDATE),
    )


def _read(view: StageView, device: str) -> tuple[int, int | None]:
    """The count at the moment, and when it was last read before (None: never)."""
    table = view.evidence.readings
    if table is None:
        return 0, None
    wanted = pc.and_(pc.equal(table["metric"], STRAYS), pc.equal(table["device"], device))
    if view.until_ns is not None:
        wanted = pc.and_(wanted, pc.less_equal(table["t_ns"], view.until_ns))
    rows = table.filter(wanted)
    if not rows.num_rows:
        return 0, None
    return int(np.max(rows["value"].to_numpy())), int(np.max(rows["t_ns"].to_numpy()))


def rollback(view: StageView) -> Finding | None:
    """`traffic.rollback`, of the stage that a rollback ended, for information: how long after the candidate's first bad
    answer all traffic was at the baseline (seconds), and what became of the baseline's own requests from then on.
    """
    settled_ns, stages = view.evidence.settled_ns, view.evidence.stages
    if settled_ns is None or not stages or stages[-1].plan.index != view.index:
        return None
    samples = view.evidence.samples.take(view.evidence.samples.stage == view.index)
    bad = samples.done_ns[(samples.arm == CANDIDATE) & samples.failed]
    if not len(bad):
        return None
    first_ns = int(bad.min())
    mine = samples.take((samples.arm == BASELINE) & (samples.done_ns >= first_ns) & (samples.status != CANCELLED))
    nobodys = samples.take((samples.arm == UNKNOWN) & samples.failed & (samples.sent_ns >= settled_ns))
    lost = int(mine.failed.sum()) + len(nobodys)
    seconds = max(settled_ns - first_ns, 0) / 1e9
    v1, v2 = view.names
    asked = words.count(len(mine) + len(nobodys), "request")
    kept = f"{lost} of {asked} at {v1} failed" if lost else f"none of {asked} at {v1} failed"
    return Finding(
        metric="traffic.rollback",
        outcome="pass",
        reason=f"for information: all traffic was at {v1} {words.time(seconds)} after the first bad answer of {v2}; "
        f"from then on {kept}",
        kind=view.role,
        stage=view.index,
        unit="s",
        effect=seconds,
        n_baseline=len(mine),
        n_candidate=len(bad),
    )


def share(view: StageView) -> Finding | None:
    """`traffic.share` of a split: what was observed, for information. Whether it fits the plan says `validity`."""
    n1, n2 = view.asked(BASELINE), view.asked(CANDIDATE)
    total = n1 + n2
    if view.plan.mode != "split" or not total:
        return None
    planned = words.percent(view.plan.candidate_share)
    return Finding(
        metric="traffic.share",
        outcome="pass",
        reason=f"for information: {view.names[1]} got {words.percent(n2 / total)} of requests ({n2} of {total}), "
        f"planned were {planned}",
        kind=view.role,
        stage=view.index,
        unit="rate",
        effect=n2 / total,
        interval=(rate_lower(n2, total, ALPHA_PASS), rate_upper(n2, total, ALPHA_PASS)),
        n_baseline=n1,
        n_candidate=n2,
    )
