"""Readings of one stage: what the generator, the host and the server said of themselves while it ran."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.judge.columns import Floats, Ints
from harness.judge.view import StageView


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One metric of one device; `t_ns` ascending."""

    t_ns: Ints
    value: Floats

    def __len__(self) -> int:
        return len(self.t_ns)


def series(view: StageView, source: str, metric: str) -> dict[str, Series]:
    """By device: the readings from the begin of the stage to its end (or to the moment of the look)."""
    begin, end = span(view)
    found = between(view.evidence.readings, source, metric, begin, end)
    return {device: one for device, one in found.items() if len(one)}


def grown(view: StageView, source: str, metric: str) -> dict[str, float]:
    """By device: how much a counter grew from the last reading before the stage (else the first in it) to its last.

    A counter that falls began anew, from 0.
    """
    begin, end = span(view)
    found = {}
    for device, one in between(view.evidence.readings, source, metric, None, end).items():
        first = max(int(np.searchsorted(one.t_ns, begin, side="right")) - 1, 0)
        steps = np.diff(one.value[first:])
        if len(steps):
            found[device] = float(np.where(steps >= 0, steps, one.value[first + 1 :]).sum())
    return found


def span(view: StageView) -> tuple[int, int]:
    """Begin and end of the stage as far as it is judged, in ns."""
    begin = view.record.begin_ns
    end = view.until_ns
    if end is None:
        end = begin if view.last_ns is None else view.last_ns
    return begin, max(end, begin)


def between(table: pa.Table | None, source: str, metric: str, begin: int | None, end: int) -> dict[str, Series]:
    """By device: the readings after `begin` (None: from the first on) up to `end`, in ns."""
    if table is None or not table.num_rows:
        return {}
    wanted = pc.and_(pc.equal(table["metric"], metric), pc.equal(table["source"], source))
    wanted = pc.and_(wanted, pc.less_equal(table["t_ns"], end))
    if begin is not None:
        wanted = pc.and_(wanted, pc.greater(table["t_ns"], begin))
    rows = table.filter(wanted)
    if not rows.num_rows:
        return {}
    t_ns, value = rows["t_ns"].to_numpy(), rows["value"].to_numpy()
    coded = rows["device"].combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.chunk(0)
    codes = np.asarray(coded.indices.to_numpy(zero_copy_only=False))
    found = {}
    for code, device in enumerate(coded.dictionary.to_pylist()):
        mine = (codes == code) & np.isfinite(value)
        order = np.argsort(t_ns[mine], kind="stable")
        found[str(device)] = Series(t_ns[mine][order], value[mine][order])
    return found
