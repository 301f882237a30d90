"""From what was kept of a stage's requests to its counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.judge.columns import ARMS, CANCELLED, OK, STATUSES, Bools, Ints
from harness.judge.evidence import bare_plan
from harness.judge.failures import Tally, bursts, clumped, ranked
from harness.judge.sketched.codes import SECONDS, THOUSANDTHS, TOKENS, UNKNOWN, Codes
from harness.judge.sketched.counts import Histogram, Lane, StageCounts
from harness.judge.sketched.reading import KIND
from harness.recording.schema import BLOCK_NS
from harness.types import StageRecord

MOST_CELLS = 2400
"""Longer stages are cut into longer cells: blocks are at most a tenth as many."""
DENSE = 20
"""Numbers of a plan are few times as many as its requests; others may be anything."""


class Kept(NamedTuple):
    """Of each request in the order in which they came; `codes` of the metrics that are there."""

    what: npt.NDArray[np.uint8]
    due_ns: Ints
    pair_id: Ints
    codes: Mapping[str, Codes]


class Failures(NamedTuple):
    """`rows`: arm, kind (number of the class times KIND, and status) and end of each, None without any. `ends_ns`: of
    each arm, when its first and its last request ended.
    """

    rows: tuple[Ints, Ints, Ints] | None
    labels: Sequence[str]
    ends_ns: Sequence[Sequence[int]]


class Pairs(NamedTuple):
    """Rows of both arms that are one pair; how many pairs there are, whole or not; how many rows repeat a number."""

    first: Ints
    second: Ints
    every: int
    twice: int


def settle(
    kept: Kept, index: int, record: StageRecord | None, *, failures: Failures, last_ns: int, **known: Any
) -> tuple[int, StageCounts]:
    """The begin of the stage (of one without a plan, when its first request was due), and its counts."""
    first = int(kept.due_ns.min()) if len(kept.due_ns) else 0
    begin = first if record is None else record.begin_ns
    cell, cell_ns = _cells(kept.due_ns, min(begin, first))
    cells = int(cell.max()) + 1 if len(cell) else 0
    kinds = len(ARMS) * 2 * KIND
    statuses = np.bincount(cell * kinds + kept.what, minlength=max(cells, 1) * kinds).reshape(-1, len(ARMS), 2, KIND)
    statuses = np.moveaxis(statuses, 0, -1)[:, :, : len(STATUSES)]
    asked = [np.flatnonzero(kept.what // KIND == 2 * arm) for arm in range(len(ARMS))]
    pairs = paired(kept.pair_id, asked[0], asked[1])
    whole = int(((kept.what[pairs.first] % KIND != CANCELLED) & (kept.what[pairs.second] % KIND != CANCELLED)).sum())
    requests = len(asked[0]), len(asked[1])
    mode = bare_plan(index, requests, whole, 1.0).mode if record is None else record.plan.mode
    if mode != "paired":
        pairs = pairs._replace(first=pairs.first[:0], second=pairs.second[:0])
    lanes, sums, lost = _lanes(kept, cell, asked, pairs)
    planned_s = record.plan.duration_s if record is not None else max((last_ns - begin) / 1e9, 1e-9)
    one, two = (_tally(arm, statuses[arm], failures, planned_s) for arm in range(2))
    counts = StageCounts(
        cells=cells,
        cell_ns=cell_ns,
        last_ns=max(last_ns, begin),
        scale=THOUSANDTHS,
        lanes=lanes,
        sums=sums,
        statuses=statuses,
        tallies=(one, two),
        lost=lost,
        pairs=(pairs.every, whole),
        numbers=_numbers(kept, index),
        held_s=_held_s(kept, asked, pairs),
        twice=pairs.twice,
        **known,
    )
    return begin, counts


def _cells(due_ns: Ints, begin: int) -> tuple[Ints, int]:
    span = int(due_ns.max()) - begin if len(due_ns) else 0
    cell_ns = BLOCK_NS * math.ceil((span // BLOCK_NS + 1) / MOST_CELLS)
    return (due_ns - begin) // cell_ns, cell_ns


def paired(pair_id: Ints, first: Ints, second: Ints) -> Pairs:
    """Of either arm's rows those that have the same number; of a number that comes twice, the first."""
    first, second = first[pair_id[first] >= 0], second[pair_id[second] >= 0]
    if not len(first) or not len(second):
        several = first if len(first) else second
        number = np.unique(pair_id[several]).size
        return Pairs(first[:0], second[:0], number, len(several) - number)
    low = min(int(pair_id[first].min()), int(pair_id[second].min()))
    size = max(int(pair_id[first].max()), int(pair_id[second].max())) - low + 1
    if size > DENSE * (len(first) + len(second)):
        numbers, place = np.unique(np.concatenate([pair_id[first], pair_id[second]]), return_inverse=True)
        at, size = (place[: len(first)], place[len(first) :]), len(numbers)
    else:
        at = (pair_id[first] - low, pair_id[second] - low)
    where: list[npt.NDArray[Any]] = []
    for rows, numbers in zip((first, second), at, strict=True):
        held = np.full(size, -1, np.int32 if len(pair_id) < 1 << 31 else np.int64)
        held[numbers[::-1]] = rows[::-1]
        where.append(held)
    both = (where[0] >= 0) & (where[1] >= 0)
    distinct = [int((held >= 0).sum()) for held in where]
    every = sum(distinct) - int(both.sum())
    return Pairs(where[0][both], where[1][both], every, len(first) + len(second) - sum(distinct))


def _lanes(
    kept: Kept, cell: Ints, asked: Sequence[Ints], pairs: Pairs
) -> tuple[dict[Lane, Histogram], dict[Lane, Any], dict[tuple[str, int], int]]:
    lanes, sums, lost = dict[Lane, Histogram](), dict[Lane, Any](), dict[tuple[str, int], int]()
    # A pair belongs to the cell in which its first request was due.
    together = np.minimum(cell[pairs.first], cell[pairs.second])
    answered = (kept.what[pairs.first] % KIND == OK) & (kept.what[pairs.second] % KIND == OK)
    for metric, codes in kept.codes.items():
        decoded = TOKENS if metric == "osl" else SECONDS
        known = codes != UNKNOWN
        both = known[pairs.first] & known[pairs.second]
        for arm, rows in enumerate(asked):
            found = []
            if arm < 2 and len(pairs.first):
                mine = (pairs.first, pairs.second)[arm]
                found.append((True, codes[mine[both]], together[both]))
                lost[metric, arm] = int((answered & known[mine] & ~both).sum())
                known[mine[both]] = False  # what is left has no partner
            alone = rows[known[rows]]
            found.append((False, codes[alone], cell[alone]))
            for of_pairs, values, cells in found:
                if len(values):
                    lanes[metric, arm, of_pairs] = Histogram.of(cells, values.astype(np.int64))
                    sums[metric, arm, of_pairs] = _by_cell(lanes[metric, arm, of_pairs], decoded)
    return lanes, sums, lost


def _by_cell(histogram: Histogram, decoded: Any) -> Any:
    return np.bincount(histogram.cell, histogram.count * decoded[histogram.bin])


def unpacked(counts: Ints) -> Histogram:
    """From one count for each code."""
    found = np.flatnonzero(counts)
    found = found[found != UNKNOWN]
    return Histogram(np.zeros(len(found), np.int64), found, counts[found])


def _tally(arm: int, statuses: Ints, failures: Failures, planned_s: float) -> Tally:
    requests = int(statuses.sum() - statuses[:, CANCELLED].sum())
    mine: Bools = failures.rows[0] == arm if failures.rows is not None else np.zeros(0, np.bool_)
    if failures.rows is None or not mine.any():
        return Tally(requests)
    kinds, done_ns = failures.rows[1][mine], failures.rows[2][mine]
    first, last = failures.ends_ns[arm]
    counted = bursts(done_ns, kinds, (first, last), requests, planned_s)
    classes: Counter[str] = Counter()
    for kind, number in zip(*(part.tolist() for part in np.unique(kinds, return_counts=True)), strict=True):
        classes[failures.labels[kind // KIND] or STATUSES[kind % KIND]] += number
    alone = float(counted.sum()) / clumped(counted)
    return Tally(requests, len(kinds), int(counted.sum()), alone, ranked(classes))


def _numbers(kept: Kept, index: int) -> tuple[int, int] | None:
    """As `delivery.numbers_of`: how many numbers of the plan were due, and seen."""
    planned = kept.pair_id[kept.what // KIND % 2 == 0]
    if not len(planned) or int(planned.min()) >> 32 != index or int(planned.max()) >> 32 != index:
        return None
    number = planned & 0xFFFFFFFF
    due = int(number.max()) + 1
    if due > DENSE * len(number) + 1000:
        return None
    seen = np.zeros(due, np.bool_)
    seen[number] = True
    return due, int(seen.sum())


def _held_s(kept: Kept, asked: Sequence[Ints], pairs: Pairs) -> float | None:
    """How long slots were in use: from the first request of a pair being due to the last being done."""
    codes = kept.codes.get("response_time")
    if codes is None:
        return None
    if len(pairs.first):
        return float(np.maximum(SECONDS[codes[pairs.first]], SECONDS[codes[pairs.second]]).sum())
    return float(sum(SECONDS[codes[rows]].sum() for rows in asked))
