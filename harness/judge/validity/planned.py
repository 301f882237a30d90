"""Whether what was recorded is what the plan says: versions, shares, whole pairs, and arms that work at all."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from harness.judge import words
from harness.judge.columns import ARMS, BASELINE, CANCELLED, CANDIDATE, OK, STABLE, UNKNOWN
from harness.judge.errors.failures import busy_baseline, most_frequent, tally_of
from harness.judge.metrics import ERRORS
from harness.judge.statistics.distributions import binomial_p
from harness.judge.validity.fault import Fault, everything, fault
from harness.judge.view import StageView
from harness.types import ArmName

MAX_LOST = 0.10
SHARE_ALPHA = 0.001
MAX_UNKNOWN, UNSEEN = 0.01, 0.1
"""Of the candidate's requests, and of the errors that a gate allows it: what may be unseen."""
FEW_UNKNOWN = 5
TURNS = 6
"""A weighted round robin gives an arm at most 3 requests more or fewer than its share, in any stretch of what goes
through it (measured on HAProxy: 1.76); a router splits at two places at most, HTTP and gRPC.
"""
ROUTED = "ingress.requests"
"""Readings: how many requests an ingress has given to an arm so far, of whomever; the device is the arm."""


def version(view: StageView) -> Fault | None:
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
            return other_version(view, arm, int(wrong.sum()), int(answered.sum()), name)
    return None


def other_version(view: StageView, arm: int, wrong: int, answered: int, name: str) -> Fault:
    return fault(
        view,
        "version",
        f"{wrong} of {answered} answers that the plan gave to {ARMS[arm]} "
        f"(version {view.evidence.versions[ARMS[arm]]}) came from version {name}: nothing can be said of either",
        voids=everything,
    )


def requests(view: StageView) -> Fault | None:
    if view.asked(BASELINE) + view.asked(CANDIDATE):
        return None
    return fault(view, "requests", "no request of this stage came to an end", missing=True)


def attribution(view: StageView) -> Fault | None:
    """Requests through an ingress of which nobody knows who had them: they might all be the candidate's failures. At a
    look a few of them are no reason yet.
    """
    unknown, (failed, _) = view.asked(UNKNOWN), view.failed(UNKNOWN)
    allowed = [
        gate.limit if gate.limit is not None else gate.margin or 0.0
        for gate in view.evidence.rules
        if gate.metric in ERRORS
    ]
    part = min(MAX_UNKNOWN, *(UNSEEN * each for each in allowed)) if allowed else MAX_UNKNOWN
    if unknown <= part * (view.asked(CANDIDATE) if view.plan.candidate_share else 0):
        return None
    if not view.final and failed < FEW_UNKNOWN:
        return None
    what = f"{words.count(unknown, 'request')} through the ingress name nobody who had them"
    why = f", {failed} of them failed{most_frequent(tally_of(view, UNKNOWN).classes)}" if failed else ""
    # To what was never answered no name could be given.
    cure = ": an ingress that names the server in each answer (x-served-by) would tell" if failed < unknown else ""
    return fault(view, "attribution", f"{what}{why}{cure}")


def share(view: StageView) -> Fault | None:
    """The observed split against the planned one, at 99.9 %: the candidate's part, and of three the baseline's, too.

    Of an ingress that gives in turns it is its own counters that are held against the plan, by what turns allow: where
    others take turns as well, ours may all be the same arm's. Of our own, then, nothing follows.
    """
    planned = view.plan.shares
    arms: dict[ArmName, int] = {"candidate": view.asked(CANDIDATE), "baseline": view.asked(BASELINE)}
    total = sum(arms.values())
    if total == 0 or (view.plan.mode == "paired" and not view.final):
        return None
    given, ingress = _given(view), view.evidence.ingress
    if ingress is not None and ingress.turns and view.plan.routed and not view.final:
        return None  # others may take turns, too, and only the counters at its end tell
    if given is not None and ingress is not None:
        whole = given["baseline"] + given["candidate"]
        if abs(given["candidate"] - view.plan.candidate_share * whole) > TURNS * ingress.routers:
            return _off(view, "candidate", given["candidate"], whole, ", by the ingress's own count")
        if whole > total:
            return None
    if "stable" in planned:
        total += view.asked(STABLE)
    else:
        del arms["baseline"]
    for name, count in arms.items():
        # The test holds for no share and the whole one, too: it is then 0 or 1.
        if binomial_p(count, total, min(planned.get(name, 0.0), 1.0)) < SHARE_ALPHA:
            return _off(view, name, count, total)
    return None


def _off(view: StageView, name: ArmName, count: int, total: int, by: str = "") -> Fault:
    share = words.percent(view.plan.shares.get(name, 0.0))
    return fault(
        view,
        "share",
        f"{view.arm_name(ARMS.index(name))} got {words.percent(count / total)} of requests ({count} of {total}{by}), "
        f"planned were {share}: the split is not the one of the plan",
    )


def _given(view: StageView) -> dict[str, int] | None:
    """What an ingress that gives in turns gave to each arm in this stage, of whomever; None where that is not known."""
    ingress, table = view.evidence.ingress, view.evidence.readings
    if ingress is None or not ingress.turns or not view.plan.routed or table is None or not view.final:
        return None
    rows = table.filter(pc.equal(table["metric"], ROUTED))
    given: dict[str, int] = {}
    for arm in ("baseline", "candidate"):
        mine = rows.filter(pc.equal(rows["device"], arm))
        t_ns, value = mine["t_ns"].to_numpy(), mine["value"].to_numpy()
        before, after = value[t_ns <= view.record.begin_ns], value[t_ns >= (view.record.end_ns or 0)]
        # A router that was restarted begins to count anew.
        if not len(before) or not len(after) or after[0] < before[-1]:
            return None
        given[arm] = int(after[0] - before[-1])
    return given


def pairs(view: StageView) -> Fault | None:
    """Pairs lost for other reasons than an arm's failure: a partner missing, or cancelled."""
    if view.plan.mode != "paired" or not view.final:
        return None
    kept = [arm.pair_id[arm.status != CANCELLED] for arm in view.arms]
    every = np.union1d(view.baseline.pair_id, view.candidate.pair_id).size
    return torn(view, every, np.intersect1d(*kept).size)


def torn(view: StageView, every: int, whole: int) -> Fault | None:
    if every == 0 or every - whole <= MAX_LOST * every:
        return None
    return fault(
        view,
        "pairs",
        f"{every - whole} of {every} pairs are not whole (a partner is missing or was cancelled); at most "
        f"{words.percent(MAX_LOST)} may be",
    )


def duplicates(view: StageView) -> Fault | None:
    """Pair ids are unique to an arm. In other modes only those of a plan's are known to be: in somebody else's file
    they may be anything.
    """
    if view.plan.mode != "paired":
        ids = np.concatenate([arm.pair_id for arm in view.arms])
        if not view.evidence.planned or (ids < 0).any() or (ids >> 32 != view.index).any():
            return None
    return repeated(view, sum(len(arm) - np.unique(arm.pair_id).size for arm in view.arms))


def repeated(view: StageView, twice: int) -> Fault | None:
    total = view.asked(BASELINE) + view.asked(CANDIDATE)
    if twice <= 0.01 * total:
        return None
    return fault(view, "pairs", f"{twice} of {total} requests repeat the pair id of another of the same arm")


def clock(view: StageView) -> Fault | None:
    samples = view.samples
    known = samples.sent_ns >= 0
    wrong = (samples.done_ns < samples.due_ns) | (known & (samples.done_ns < samples.sent_ns))
    wrong |= (samples.first_ns >= 0) & (samples.first_ns > samples.done_ns)
    return backwards(view, int(wrong.sum()))


def backwards(view: StageView, count: int) -> Fault | None:
    if count <= 0.001 * view.total:
        return None
    return fault(
        view,
        "clock",
        f"{count} of {view.total} requests ended before they began: a clock was set while measuring",
    )


def baseline(view: StageView) -> Fault | None:
    first = tally_of(view, BASELINE)
    if not busy_baseline(first):
        return None
    return fault(
        view,
        "baseline",
        f"{view.names[0]} itself fails {words.percent(first.rate)} of requests ({first.failures} of "
        f"{first.requests}): a comparison with a broken baseline says little",
    )


def scores(view: StageView) -> Fault | None:
    """The floor cannot be measured where the baseline fails to score its own text."""
    total, failed = view.scored(BASELINE)
    if failed <= MAX_LOST * total:
        return None
    return fault(
        view,
        "scores",
        f"{view.names[0]} failed {failed} of {total} requests that score its own text: no floor is known",
    )
