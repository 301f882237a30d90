"""One trial of a load against objectives: it holds, it misses, or it does not tell.

An objective allows a share of the requests to be beyond its limits (p99 < X: 1 % slower than X; a failed request is
beyond every limit). It holds where an upper bound of that share is within what is allowed, and is missed where a lower
bound is beyond it; either bound with the confidence that was asked for.

The bounds are those of Korn and Graubard (Survey Methodology 24, 1998) for shares of clustered samples: the exact
binomial bound (Clopper and Pearson) for n / deff requests, corrected by Student's t for the number of clusters. For the
slow requests of a queue come together: of an M/M/1 queue at three quarters of its capacity 25 requests tell as much as
one that is independent. Clusters are blocks of time; the design effect deff (Kish 1965) is the variance of the blocks'
counts over that of independent requests, times (1 + r) / (1 - r) where blocks resemble their neighbours (r as in
`judge.intervals`). Where hardly any request is beyond its limits, their clustering cannot be seen, so it is also taken
of the slowest tenth, which clusters alike: without it a short trial that met no burst would seem to prove that there
are none. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import special

from harness.judge import words
from harness.judge.amounts.memory import Held
from harness.judge.columns import Floats
from harness.judge.operations.asked import as_asked
from harness.judge.operations.memory import held_in
from harness.judge.statistics.distributions import t_isf
from harness.judge.validity import saturation
from harness.judge.validity.lag import LAG_SHARE, MIN_LAG_S
from harness.judge.validity.trend import kendall
from harness.types import Finding

Facts = Mapping[str, Any]
Outcome = Literal["holds", "misses", "undecided", "behind"]

BLOCKS = 40
"""Of time, equally long, in which the facts of a trial are."""
MOST_LAG1 = 0.95
UNSENT_SIGMA = 4.0


@dataclass(frozen=True)
class Share:
    """`beyond` of `n` requests broke an objective that `allowed` such a share of them to; one-sided bounds.

    `effect`: deff.
    """

    n: int
    beyond: int
    effect: float
    low: float
    high: float
    allowed: float

    @property
    def value(self) -> float:
        return self.beyond / self.n if self.n else 1.0


@dataclass(frozen=True)
class Judged:
    """`shares`: one an objective, in their order. `reason`: why it says nothing of the server, or why it misses;
    "" where the shares tell. `done`, `good`: requests a second that were answered, and that held every limit. `memory`:
    where it has a limit, the most that was used; in words why that is not known.
    """

    outcome: Outcome
    shares: tuple[Share, ...]
    done: float
    good: float
    reason: str = ""
    memory: Held | str | None = None

    @property
    def leans(self) -> bool:
        """Whether it would hold, if the shares were known exactly to be what was seen. What was not seen may not."""
        seen = not _unseen(self.memory)
        return seen and all(share.n and share.value <= share.allowed for share in self.shares)


def judge_trial(
    trial: Facts, objectives: Sequence[Facts], confidence: float, memory: Facts | None = None
) -> Judged:  # fmt: skip
    """The outcome of a trial's facts (`run.operations.find`); `objectives`, and the limit on `memory`, as in
    observations.json.
    """
    found = _judge(trial, objectives, confidence)
    if memory is None or found.outcome == "behind":
        return found
    held = held_in(trial.get("memory"), memory)
    if isinstance(held, Held) and held.broken:
        kept = "; that was so when the trial began: a server keeps what it took before" if held.from_begin else ""
        reason = "; ".join(filter(None, (found.reason, f"{held.said}{kept}")))
        return replace(found, outcome="misses", memory=held, reason=reason)
    if (unseen := _unseen(held)) and found.outcome != "misses":
        return replace(found, outcome="undecided", memory=held, reason=unseen)
    return replace(found, memory=held)


def _unseen(memory: Held | str | None) -> str:
    """Why it cannot be said that its limit was kept; "" if it can, and where there is none."""
    return memory.unknown if isinstance(memory, Held) else memory or ""


def _judge(trial: Facts, objectives: Sequence[Facts], confidence: float) -> Judged:
    blocks: Sequence[Facts] = trial["blocks"]
    seconds = sum(block["seconds"] for block in blocks)
    shares = tuple(_share(blocks, i, objective["allowed"], confidence) for i, objective in enumerate(objectives))
    done, good = (sum(block[what] for block in blocks) / seconds for what in ("done", "good"))
    if late := _behind(trial, seconds, objectives):
        return Judged("behind", shares, done, good, late)
    answered = any(block["due"] > block["failed"] for block in blocks)
    for objective, measured in zip(objectives, trial["measured"], strict=True):
        if not measured and answered:
            times = " and ".join(objective["within"])
            return Judged("undecided", shares, done, good, f"no answer has a {times}")
    if grown := _growing(trial, blocks, seconds):
        return Judged("misses", shares, done, good, grown)
    if any(share.n and share.low > share.allowed for share in shares):
        return Judged("misses", shares, done, good)
    holds = all(share.high <= share.allowed for share in shares)
    return Judged("holds" if holds else "undecided", shares, done, good)


def least_requests(objectives: Sequence[Facts], confidence: float) -> int:
    """How many independent requests of which none is beyond its limits show that every objective holds."""
    allowed = min(objective["allowed"] for objective in objectives)
    return math.ceil(math.log(1 - confidence) / math.log1p(-allowed))


def _share(blocks: Sequence[Facts], index: int, allowed: float, confidence: float) -> Share:
    due = np.array([block["due"] for block in blocks], np.float64)
    beyond, slowest = (np.array([block[what][index] for block in blocks], np.float64) for what in ("beyond", "slowest"))
    n, k = int(due.sum()), int(beyond.sum())
    if n < 2:
        return Share(n, k, 1.0, 0.0, 1.0, allowed)
    effect, clusters = max(_design_effect(counts, due) for counts in (beyond, slowest))
    alpha = 1 - confidence
    student = (t_isf(alpha, n - 1) / t_isf(alpha, max(clusters - 1, 1))) ** 2
    worth = max(n / effect * student, 1.0)
    x = k / n * worth
    low = float(special.betaincinv(x, worth - x + 1, alpha)) if k else 0.0
    high = float(special.betaincinv(x + 1, worth - x, 1 - alpha)) if k < n else 1.0
    return Share(n, k, effect, low, high, allowed)


def _design_effect(counts: Floats, due: Floats) -> tuple[float, float]:
    """At least 1; and how many independent blocks there are. Linearised, as the requests of a block are random, too."""
    n, share, blocks = float(due.sum()), float(counts.sum() / due.sum()), len(due)
    if np.count_nonzero(due) < 2:
        return n, 1.0  # of one moment: nothing tells how alike its requests are, so they may be all the same
    if not 0 < share < 1:
        return 1.0, blocks
    left = counts - share * due
    squares = float(left @ left)
    lag1 = float(left[1:] @ left[:-1]) / squares if squares else 0.0
    sure = min(max(0.0, lag1 - 1 / math.sqrt(blocks)), MOST_LAG1)
    widen = (1 + sure) / (1 - sure)
    variance = squares * blocks / (blocks - 1) * widen
    return max(variance / (n * share * (1 - share)), 1.0), blocks / widen


def punctual(trial: Facts, objectives: Sequence[Facts]) -> Finding:
    """Whether the load was as asked, up to the quantile that the strictest objective asks for.

    Of the limits, too, its lag may be a tenth: a time of 5 ms does not come near a limit of 50 ms for 1 ms of it.
    """
    strictest = max(1 - min(objective["allowed"] for objective in objectives), 0.5)
    limits = [limit for objective in objectives for limit in objective["within"].values()]
    judged = {"p50": 0.5, f"p{100 * strictest:g}": strictest}
    return as_asked("load", [trial["window"]], judged, least_s=max(MIN_LAG_S, LAG_SHARE * min(limits, default=0.0)))


def _behind(trial: Facts, seconds: float, objectives: Sequence[Facts]) -> str:
    """Why the load was not as asked; "" if it was. That nothing could be sent to a server is its own doing."""
    rate, window = trial["window"]["rate"], trial["window"]["blocks"]
    due, failed = (sum(block[what] for block in window) for what in ("due", "failed"))
    if rate is not None:
        asked = rate * seconds
        if due < asked - UNSENT_SIGMA * math.sqrt(asked):
            sent, wanted = (f"{words.number(count / seconds)}/s" for count in (due, asked))
            return f"The load generator sent {sent} and not {wanted}: this machine was too slow for it"
    load = punctual(trial, objectives)
    if load.outcome == "pass" or (load.outcome == "no data" and failed == due):
        return ""
    return load.reason


def _growing(trial: Facts, blocks: Sequence[Facts], seconds: float) -> str:
    """Why it is over-saturated, as `judge.validity.saturation` has it; "" if it is not. A closed loop cannot be."""
    medians = np.array([block["median"] for block in blocks if block["median"] is not None])
    if trial["window"]["rate"] is None or len(medians) < BLOCKS // 2:
        return ""
    due, done = (sum(block[what] for block in blocks) for what in ("due", "done"))
    quarter = len(medians) // 4
    begin, end = float(np.median(medians[:quarter])), float(np.median(medians[-quarter:]))
    tau, p = kendall(medians)
    grows = tau > 0 and p < saturation.ALPHA and end >= saturation.GROWN * begin
    if not grows or done >= saturation.BEHIND * due or due - done < saturation.MIN_BACKLOG:
        return ""
    served = f"{words.number(done / seconds)}/s"
    took = f"a request took {words.time(begin)} at first, {words.time(end)} at the end"
    return f"over-saturated: it served {served}, and {took}"
