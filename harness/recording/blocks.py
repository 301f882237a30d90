"""The counts of the blocks that are open, and their rows once they close. Constant memory: at most OPEN blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from harness.recording.requests import ARMS, SAMPLE_METRICS, Floats, Ints
from harness.recording.schema import BLOCK_NS, SKETCHES, SUMS
from harness.recording.sketches import BINS, FIRST_BIN, bins_of

# Blocks whose counts are kept at once: those in which requests end now, and room for late ones.
OPEN = 16
# A block goes out once requests of the second block after it have ended: most of its own have, by then.
BEHIND = 2

METRICS = (*SAMPLE_METRICS, "icl")
LANES = len(ARMS) * len(METRICS) * 2
_SUMS = ("total", "total_sq", "log_total", "log_total_sq", "log_cross")
_BIAS = 1 << 31


class Rows(NamedTuple):
    """Batches of SKETCHES and of SUMS."""

    sketches: pa.RecordBatch
    sums: pa.RecordBatch


def keys_of(stage: int, begin_ns: int, t_ns: Ints) -> Ints:
    """One number for stage and block, in their order."""
    return np.asarray((stage << 32) + _BIAS + (t_ns - begin_ns) // BLOCK_NS, np.int64)


def lanes_of(arm: Ints, metric: int | Ints, paired: Any) -> Ints:
    """One number below LANES for arm, metric and paired, in the order of ARMS and METRICS."""
    return np.asarray((arm * len(METRICS) + metric) * 2 + paired, np.int64)


class Blocks:
    """Counts and sums by block and lane, and labels counted by block and arm."""

    def __init__(self) -> None:
        # Pages of counts that are never touched cost nothing.
        self._counts = np.zeros((OPEN, LANES * BINS), np.int32)
        self._sums = np.zeros((OPEN, LANES, 1 + len(_SUMS)))
        self._labels: list[Counter[tuple[int, str]]] = [Counter() for _ in range(OPEN)]
        self._slots: dict[int, int] = {}
        self._free = list(range(OPEN))
        self._newest = -1
        self._due: list[int] = []
        self._out: list[tuple[dict[str, Any], dict[str, Any]]] = []

    @property
    def open(self) -> int:
        return len(self._slots)

    def add(self, keys: Ints, lanes: Ints, values: Floats, logs: Floats, cross: Floats) -> None:
        """Takes in values of shape (metrics, requests); NaN where there is none. `keys` has one for each request."""
        for rows, slots in self._each(keys):
            x = values[:, rows]
            known = ~np.isnan(x)
            x, ln, product = x[known], logs[:, rows][known], cross[:, rows][known]
            lane = (lanes[:, rows] + slots * LANES)[known]
            np.add.at(self._counts.reshape(-1), lane * BINS + (bins_of(ln) - FIRST_BIN), np.int32(1))
            flat = self._sums.reshape(OPEN * LANES, -1)
            for number, weights in enumerate((None, x, x * x, ln, ln * ln, product)):
                flat[:, number] += np.bincount(lane, weights, minlength=OPEN * LANES)

    def label(self, keys: Ints, arm: Ints, codes: Ints, labels: Sequence[str]) -> None:
        """Counts the label of each request; "" is none."""
        for rows, slots in self._each(keys):
            place = (slots * len(ARMS) + arm[rows]) * len(labels) + codes[rows]
            times = np.bincount(place)
            for found in np.flatnonzero(times).tolist():
                slot_arm, code = divmod(found, len(labels))
                if labels[code]:
                    slot, of_arm = divmod(slot_arm, len(ARMS))
                    self._labels[slot][of_arm, labels[code]] += int(times[found])

    def closed(self, *, all_of_them: bool = False) -> Rows | None:
        """The rows of what has closed since the last call, one block at a time, which takes half a millisecond; None if
        nothing has.
        """
        newest = max(self._slots, default=self._newest)
        if newest > self._newest or all_of_them:
            self._newest = newest
            self._due = sorted(key for key in self._slots if all_of_them or key <= newest - BEHIND)
        for key in self._due[: None if all_of_them else 1]:
            self._close(key)
        if not self._out:
            return None
        out, self._out = self._out, []
        sketches, sums = zip(*out, strict=True)
        return Rows(_batch(sketches, SKETCHES), _batch(sums, SUMS))

    def _each(self, keys: Ints) -> Iterator[tuple[Any, Ints]]:
        """Requests and their slots, as many blocks at a time as there is room for."""
        if not len(keys):
            return
        first = int(keys[0])
        if (keys == first).all():
            yield slice(None), np.full(len(keys), self._slot(first, [first]), np.int64)
            return
        distinct, which = np.unique(keys, return_inverse=True)
        size = OPEN // 2
        for at in range(0, len(distinct), size):
            here = distinct[at : at + size].tolist()
            slots = np.array([self._slot(key, here) for key in here], np.int64)
            rows = slice(None) if len(distinct) <= size else np.flatnonzero((which >= at) & (which < at + size))
            yield rows, slots[which[rows] - at]

    def _slot(self, key: int, needed: list[int]) -> int:
        if key not in self._slots:
            if not self._free:
                self._close(min(other for other in self._slots if other not in needed))
            self._slots[key] = self._free.pop()
        return self._slots[key]

    def _close(self, key: int) -> None:
        slot = self._slots.pop(key)
        if key in self._due:
            self._due.remove(key)
        stage, block = key >> 32, (key & 0xFFFFFFFF) - _BIAS
        counts, sums, labels = self._counts[slot], self._sums[slot], self._labels[slot]
        found = np.flatnonzero(counts)
        lanes = found // BINS
        sketches = {**_lane_columns(lanes), "bin": found % BINS + FIRST_BIN, "count": counts[found]}
        lanes = np.flatnonzero(sums[:, 0])
        rows = sums[lanes]
        arms = [*_lane_columns(lanes)["arm"].to_pylist(), *(ARMS[arm] for arm, _ in sorted(labels))]
        blank = np.zeros(len(labels))
        summed = {
            "arm": arms,
            "metric": [*_lane_columns(lanes)["metric"].to_pylist(), *(label for _, label in sorted(labels))],
            "paired": np.concatenate([lanes % 2, blank]).astype(np.bool_),
            "n": np.concatenate([rows[:, 0], [labels[which] for which in sorted(labels)]]).astype(np.int64),
            **{name: np.concatenate([rows[:, 1 + i], blank]) for i, name in enumerate(_SUMS)},
        }
        self._out.append(({"stage": stage, "block": block, **sketches}, {"stage": stage, "block": block, **summed}))
        counts[found] = 0
        sums[:] = 0
        labels.clear()
        self._free.append(slot)


def _lane_columns(lanes: Ints) -> dict[str, Any]:
    arm_metric, paired = np.divmod(lanes, 2)
    arm, metric = np.divmod(arm_metric, len(METRICS))
    return {
        "arm": pa.array(ARMS).take(pa.array(arm)),
        "metric": pa.array(METRICS).take(pa.array(metric)),
        "paired": paired.astype(np.bool_),
    }


def _batch(blocks: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        parts = []
        for block in blocks:
            values = block[field.name]
            if isinstance(values, int):
                values = np.full(len(block["arm"]), values)
            parts.append(values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values, field.type))
        columns.append(pa.concat_arrays(parts))
    return pa.record_batch(columns, schema=schema)
