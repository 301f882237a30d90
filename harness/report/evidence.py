"""The evidence of a run over time, metric by metric: what looks at moments of each stage said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from harness.report import words
from harness.report.facts import Floats
from harness.types import Finding, Look, Outcome


@dataclass(frozen=True, eq=False)
class Track:
    """One metric through one stage. `at`: moments in seconds from the run's start, of shape (looks,) as are `effect`,
    `low` and `high`, in the finding's unit and NaN where a look did not tell. `end`: the finding of the last look.
    `decided`: the look that settled it (the last, where the run itself stopped at what failed), None where none did.
    """

    begin_s: float
    at: Floats
    effect: Floats
    low: Floats
    high: Floats
    outcomes: tuple[Outcome, ...]
    end: Finding
    decided: int | None

    @property
    def over_time(self) -> bool:
        """Whether there is anything to see between the first moment and the last."""
        return int(np.isfinite(self.effect).sum()) > 1


def tracks(looks: Sequence[Look]) -> tuple[Track, ...]:
    """One for each stage and rule with a margin, in the order of the looks; () without looks."""
    found: list[Track] = []
    for _, group in groupby(looks, lambda look: look.verdict.stage):
        stage = list(group)
        rated = (f for f in stage[-1].verdict.findings if f.margin is not None and f.effect is not None)
        found += [_track(stage, finding) for finding in rated if finding.kind != "validity"]
    return tuple(found)


def families(tracks: Sequence[Track]) -> dict[str, tuple[Track, ...]]:
    """Tracks by what they are of: `ttft` has ttft.p50 and ttft.p99."""
    found: dict[str, list[Track]] = {}
    for track in tracks:
        found.setdefault(track.end.metric.partition(".")[0], []).append(track)
    return {family: tuple(of) for family, of in found.items()}


def sentence(track: Track, names: Mapping[int, str], *, many: bool) -> str:
    """`ttft.p50, stage 1: paired: fail from 65.0 s on; at the end +20 % (+11 to +25 %), margin +10 %`."""
    end = track.end
    where = f"{end.metric}, stage {names.get(end.stage, end.stage + 1)}" if many else end.metric
    between = words.interval(end)
    figures = words.effect(end) + (f" ({between})" if between != words.NONE else "")
    figures += f", margin {words.margin(end)}"
    if track.decided is None:
        early = next((n for n, outcome in enumerate(track.outcomes) if outcome == "fail"), None)
        tail = f"; a look after {_after(track, early)} would have failed it" if early is not None else ""
        return f"{where}: {end.outcome} at the end, {figures}{tail}"
    if track.decided == len(track.at) - 1:
        return f"{where}: {end.outcome} at the end, after {_after(track, track.decided)}: {figures}"
    return f"{where}: {end.outcome} from {_after(track, track.decided)} on; at the end {figures}"


def _track(looks: Sequence[Look], end: Finding) -> Track:
    said = [_of(look, end) for look in looks]
    ends = [finding.interval or (None, None) if finding else (None, None) for finding in said]
    outcomes: tuple[Outcome, ...] = tuple(finding.outcome if finding else "no data" for finding in said)
    return Track(
        begin_s=looks[0].begin_s,
        at=np.asarray([look.begin_s + look.after_s for look in looks]),
        effect=_floats([finding.effect if finding else None for finding in said]),
        low=_floats([low for low, _ in ends]),
        high=_floats([high for _, high in ends]),
        outcomes=outcomes,
        end=end,
        decided=len(looks) - 1 if looks[-1].live and end.outcome == "fail" else _decided(outcomes, end),
    )


def _of(look: Look, end: Finding) -> Finding | None:
    """What the look said of the same rule. A stage may tell the same metric in another unit at another moment."""
    same = (f for f in look.verdict.findings if (f.metric, f.unit, f.kind) == (end.metric, end.unit, end.kind))
    return next(same, None)


def _decided(outcomes: Sequence[Outcome], end: Finding) -> int | None:
    """The first look that failed what failed in the end: a run stops there. What passed, from when on it did; a stage
    that is only watched passes as long as nothing speaks against it, which decides nothing.
    """
    if end.outcome == "fail":
        return outcomes.index("fail")
    if end.outcome != "pass" or end.kind != "comparison":
        return None
    last_open = max((n for n, outcome in enumerate(outcomes) if outcome != "pass"), default=-1)
    return last_open + 1


def _after(track: Track, look: int) -> str:
    return words.seconds(float(track.at[look]) - track.begin_s)


def _floats(values: Sequence[float | None]) -> Floats:
    return np.asarray([math.nan if value is None else value for value in values], np.float64)
