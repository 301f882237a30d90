"""Change points of one series of runs: found run by run, then placed and measured with all there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.history.scales import Floats, apart, back, floor_of, scale_of, stretched
from harness.history.splitting import Split, split
from harness.history.walking import WINDOW, walk
from harness.types.history import Change, Scale

__all__ = ["Floats", "change_points", "scale_of"]


def change_points(values: npt.NDArray[Any], *, scale: Scale | None = None) -> tuple[Change, ...]:
    """The changes of one series of one segment (one fingerprint), oldest first.

    `values`: one a run, oldest first; what is not finite was not measured in that run. `scale`: how they are compared;
    None: by ratio where all are above 0, else by difference. Under 8 measured runs there is no answer.
    A change that later runs do not bear out (the 99.9 % interval of its effect holds none) is withdrawn.
    """
    plain = np.asarray(values, dtype=np.float64)
    measured = np.flatnonzero(np.isfinite(plain))
    seen = plain[measured]
    scale = scale or scale_of("", seen)
    floor = floor_of(seen, scale)
    series = stretched(seen, scale)
    alarms = walk(series, floor)
    found = {alarm.at: alarm.found for alarm in alarms}
    splits = _borne_out(series, found, floor)
    return tuple(_change(one, found[told], measured, scale) for told, one in splits)


def _borne_out(series: Floats, found: dict[int, int], floor: float) -> list[tuple[int, Split]]:
    """Each change that was told, split anew between its neighbours; without those that are not borne out."""
    told = list(found)
    known: dict[tuple[int, int, int], Split] = {}

    def between(begin: int, at: int, end: int) -> Split:
        begin, end = max(begin, at - WINDOW), min(end, at + WINDOW)
        if (begin, at, end) not in known:
            known[begin, at, end] = _moved(split(series[begin:end], at - begin, floor, found[at] + 1), begin)
        return known[begin, at, end]

    while True:
        edges = [0, *told, len(series)]
        splits = [between(*edges[i : i + 3]) for i in range(len(told))]
        doubtful = [i for i, one in enumerate(splits) if not one.clear]
        if not doubtful:
            return list(zip(told, splits, strict=True))
        weakest = max(doubtful, key=lambda i: splits[i].p)
        told = told[:weakest] + told[weakest + 1 :]


def _moved(one: Split, by: int) -> Split:
    return Split(one.at + by, one.low + by, one.high + by, one.before, one.after, one.error, one.df, one.p)


def _change(one: Split, found: int, measured: npt.NDArray[np.int64], scale: Scale) -> Change:
    """In indices of all runs: between two measured ones a change may have begun with any that was not."""
    difference = one.after - one.before
    ends = [apart(one.before + difference + side * one.half, one.before, scale) for side in (-1, 1)]
    return Change(
        at=int(measured[one.at]),
        low=int(measured[one.low - 1]) + 1,
        high=int(measured[one.high]),
        found=int(measured[found]),
        before=back(one.before, scale),
        after=back(one.after, scale),
        effect=apart(one.after, one.before, scale),
        interval=(ends[0], ends[1]),
        p=one.p,
        scale=scale,
    )
