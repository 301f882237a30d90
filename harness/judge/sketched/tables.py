"""The counts of a recording from its sketches: tables of SKETCHES and SUMS, of one worker or of many, in any order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from harness.judge.columns import ARMS, CANCELLED, OK, STATUSES, TIMEOUT, Floats, Ints
from harness.judge.errors.failures import CAP, Tally, clumped, ranked
from harness.judge.sketched.counts import PLANNED, Histogram, Lane, StageCounts, no_statuses
from harness.judge.validity.generator import OUT_OF_SOCKETS
from harness.recording.schema import BIN_RATIO, BLOCK_NS
from harness.types import StageRecord

_LOG_RATIO = math.log(BIN_RATIO)
MOST_CELLS = 100_000
"""Six days: what is due later was stamped in another epoch, and must not be counted up to."""
_KINDS = ("status", "score")
# Classes of requests that were cancelled, which fail nobody (harness.load.outcome); a sketch counts all classes alike.
_CANCELLING = ("cancelled", OUT_OF_SOCKETS)


class Hundredths:
    """Bins of a sketch. What fell into one is spread evenly over it, on the scale of ln, as `sketches.quantile` does:
    quantiles that moved in steps of 1 % would hide what is smaller.
    """

    half = _LOG_RATIO / 2
    summed = True
    name = f"bins of {round((BIN_RATIO - 1) * 100)} %"

    def spread(self, bins: npt.NDArray[np.int32], counts: Ints) -> tuple[Ints, Floats, Floats]:
        # Powers of two: shares of whole numbers that add up exactly.
        parts = np.select([counts < 2, counts < 4], [1, 2], 4)
        rows = np.repeat(np.arange(len(bins)), parts)
        number = np.arange(len(rows)) - np.repeat(np.cumsum(parts) - parts, parts)
        values = np.exp((bins[rows] + (number + 0.5) / parts[rows]) * _LOG_RATIO)
        return rows, values, counts[rows] / parts[rows]


HUNDREDTHS = Hundredths()


class _Column(NamedTuple):
    """One text column: its distinct words, and which of them each row has."""

    words: list[str]
    code: Ints

    def among(self, wanted: tuple[str, ...]) -> Ints:
        """The place in `wanted` of each row's word, -1 if it is not there."""
        places = [wanted.index(word) if word in wanted else -1 for word in self.words]
        return np.array([*places, -1], np.int64)[self.code]


def stage_counts(sketches: pa.Table, sums: pa.Table, record: StageRecord, *, begin: int = 0) -> StageCounts:
    """One stage. `begin`: the block in which it began; 0 if the sketcher knew it."""
    index = record.plan.index
    sketches, sums = (table.filter(pc.equal(table["stage"], index)) for table in (sketches, sums))
    ends = [end for table in (sketches, sums) if table.num_rows for end in pc.min_max(table["block"]).as_py().values()]
    begin = min([begin, *ends])
    cells = min(max([begin, *(end + 1 for end in ends)]), begin + MOST_CELLS)
    lanes = _lanes(sketches, begin)
    rows = _Sums(sums, begin, cells - begin)
    statuses = rows.statuses()
    ended = statuses[:, PLANNED][:, [OK, TIMEOUT]].sum()
    timed = sum(lane.total for (metric, _, _), lane in lanes.items() if metric == "response_time")
    lags = [lane for (metric, _, _), lane in lanes.items() if metric == "send_lag"]
    one, two = (rows.tally(arm, statuses[arm]) for arm in range(2))
    return StageCounts(
        cells=cells - begin,
        last_ns=_last_ns(record, cells - begin),
        scale=HUNDREDTHS,
        lanes=lanes,
        sums=rows.totals(),
        statuses=statuses,
        tallies=(one, two),
        versions=rows.labels("version"),
        errors=_over_arms(rows.labels("error")),
        lost={(metric, arm): n for (arm, metric), n in rows.labels("lost").items()},
        pairs=_pairs(lanes, statuses),
        lags={None: sum(lags[1:], lags[0])} if lags else {},
        # A time that is negative is in no bin; of all or none of the requests are the due times unknown.
        backwards=int(ended - timed) if timed else 0,
        due_known=timed > 0,
    )


def _last_ns(record: StageRecord, cells: int) -> int:
    last = record.begin_ns + cells * BLOCK_NS
    return last if record.end_ns is None else min(last, record.end_ns)


def _lanes(sketches: pa.Table, begin: int) -> dict[Lane, Histogram]:
    arm, metric = _column(sketches, "arm").among(ARMS), _column(sketches, "metric")
    block, bins, count = (_numbers(sketches, name) for name in ("block", "bin", "count"))
    paired = _numbers(sketches, "paired")
    lanes = {}
    which = (metric.code * len(ARMS) + arm) * 2 + paired
    for lane in np.unique(which[arm >= 0]).tolist():
        mine = (which == lane) & (arm >= 0)
        code, of_arm, of_pairs = lane // 2 // len(ARMS), lane // 2 % len(ARMS), bool(lane % 2)
        cell = np.minimum(block[mine] - begin, MOST_CELLS - 1)
        lanes[metric.words[code], of_arm, of_pairs] = Histogram.of(cell, bins[mine], count[mine])
    return lanes


class _Sums:
    """The rows of SUMS of one stage."""

    def __init__(self, sums: pa.Table, begin: int, cells: int) -> None:
        self._cells = cells
        self._total = sums["total"].to_numpy()
        n, block, paired = (_numbers(sums, name) for name in ("n", "block", "paired"))
        arm, metric = _column(sums, "arm").among(ARMS), _column(sums, "metric")
        # In an order of their own, whatever the file's: floats are added in it.
        order = np.lexsort((self._total, n, block, paired, arm, np.argsort(np.argsort(metric.words))[metric.code]))
        order = order[arm[order] >= 0]
        self._total, self._n = self._total[order], n[order]
        self._cell = np.minimum(block[order] - begin, MOST_CELLS - 1)
        self._paired, self._arm, self._metric = paired[order], arm[order], _Column(metric.words, metric.code[order])

    def totals(self) -> dict[Lane, Floats]:
        found = {}
        for code, word in enumerate(self._metric.words):
            if "." in word:
                continue
            for lane in range(2 * len(ARMS)):
                arm, paired = divmod(lane, 2)
                mine = (self._metric.code == code) & (self._arm == arm) & (self._paired == paired)
                if mine.any():
                    found[word, arm, bool(paired)] = self._by_cell(mine, self._total)
        return found

    def statuses(self) -> Ints:
        found = no_statuses(self._cells)
        for code, word in enumerate(self._metric.words):
            kind, _, status = word.partition(".")
            if kind in _KINDS and status in STATUSES:
                for arm in range(len(ARMS)):
                    mine = (self._metric.code == code) & (self._arm == arm)
                    found[arm, _KINDS.index(kind), STATUSES.index(status)] += self._by_cell(mine, self._n).astype(int)
        return found

    def labels(self, kind: str) -> dict[tuple[int, str], int]:
        """How often each arm has each label of a kind."""
        found: Counter[tuple[int, str]] = Counter()
        for arm in range(len(ARMS)):
            for label, by_cell in self._labelled(kind, arm).items():
                if by_cell.sum():
                    found[arm, label] = int(by_cell.sum())
        return dict(found)

    def tally(self, arm: int, statuses: Ints) -> Tally:
        """The classes that are counted of all requests are those of the failed and the cancelled ones; failures that
        have no class are named by their status. Bursts are capped by cell.
        """
        by_status = statuses.sum(axis=0)
        wrong = [status for status in range(len(STATUSES)) if status not in (OK, CANCELLED)]
        failures = by_status[wrong].sum(axis=0)
        classes = {label: counts.astype(np.int64) for label, counts in sorted(self._labelled("error", arm).items())}
        cancelled = by_status[CANCELLED]
        for label in _CANCELLING:
            taken = np.minimum(cancelled, classes.get(label, np.zeros_like(failures)))
            classes[label], cancelled = classes.get(label, taken) - taken, cancelled - taken
        # Others' tools may have classes for what did not fail.
        excess = np.maximum(sum(classes.values(), np.zeros_like(failures)) - failures, 0)
        for label in sorted(classes):
            taken = np.minimum(excess, classes[label])
            classes[label], excess = classes[label] - taken, excess - taken
        left = failures - sum(classes.values(), np.zeros_like(failures))
        for status in wrong[1:] + wrong[:1]:  # an error has a class, others say enough by their status
            unnamed = np.minimum(left, by_status[status])
            classes[STATUSES[status]] = classes.get(STATUSES[status], np.zeros_like(failures)) + unnamed
            left = left - unnamed
        counted = sum((np.minimum(counts, CAP) for counts in classes.values()), np.zeros_like(failures))
        counted = counted.astype(np.float64)
        named = Counter({label: int(counts.sum()) for label, counts in classes.items() if counts.sum()})
        requests = int(by_status.sum() - by_status[CANCELLED].sum())
        alone = float(counted.sum()) / clumped(counted)
        return Tally(requests, int(failures.sum()), int(counted.sum()), alone, ranked(named))

    def _labelled(self, kind: str, arm: int) -> dict[str, Ints]:
        found = {}
        for code, word in enumerate(self._metric.words):
            of, _, label = word.partition(".")
            mine = (self._metric.code == code) & (self._arm == arm)
            if of == kind and label and mine.any():
                found[label] = self._by_cell(mine, self._n).astype(np.int64)
        return found

    def _by_cell(self, rows: Ints, weights: Ints | Floats) -> Floats:
        return np.bincount(self._cell[rows], weights[rows], minlength=max(self._cells, 1)).astype(np.float64)


def _over_arms(labels: Mapping[tuple[int, str], int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for (_, label), n in labels.items():
        found[label] += n
    return dict(found)


def _pairs(lanes: Mapping[Lane, Histogram], statuses: Ints) -> tuple[int, int]:
    """How many pairs there are, and how many are whole: those of which both were sent and neither was cancelled."""
    both = max((lane.total for (_, arm, paired), lane in lanes.items() if paired and arm == 0), default=0)
    asked = int(statuses[:2, PLANNED].sum())
    return asked - both, max(both - int(statuses[:2, PLANNED, CANCELLED].sum()), 0)


def _column(table: pa.Table, name: str) -> _Column:
    coded = pc.dictionary_encode(table[name].combine_chunks())
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.chunk(0) if coded.num_chunks else pa.array([], pa.string()).dictionary_encode()
    return _Column(coded.dictionary.to_pylist(), np.asarray(coded.indices.to_numpy(zero_copy_only=False), np.int64))


def _numbers(table: pa.Table, name: str) -> Ints:
    return np.asarray(table[name].to_numpy(), np.int64)
