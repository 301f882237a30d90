"""From what was kept of a stage's requests to its counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.judge.columns import ARMS, CANCELLED, OK, STATUSES, Bools, Ints
from harness.judge.errors.failures import Tally, bursts, clumped, ranked
from harness.judge.evidence import bare_plan
from harness.judge.sketched.counts import Histogram, Lane, StageCounts
from harness.judge.sketched.reading import KIND
from harness.recording.codes import SECONDS, THOUSANDTHS, TOKENS, UNKNOWN, Codes
from harness.recording.schema import BLOCK_NS
from harness.types import StageRecord

Whole = npt.NDArray[np.int32]
MOST_CELLS = 2400
"""Longer stages are cut into longer cells: blocks are at most a tenth as many."""
DENSE = 20
"""Numbers of a plan are few times as many as its requests; others may be anything."""


class Kept(NamedTuple):
    """Of each request in the order in which they came, in pieces; `codes` of the metrics that are there. `pair_id` as
    `small` has it.
    """

    what: list[npt.NDArray[np.uint8]]
    due_ns: list[Ints]
    pair_id: list[Ints]
    codes: dict[str, list[Codes]]


class Requests(NamedTuple):
    """The same as whole columns: `cell` of due time, and `number` from 0 on for `pair_id` (-1: it has none)."""

    what: npt.NDArray[np.uint8]
    cell: npt.NDArray[np.int16]
    number: Whole
    codes: dict[str, Codes]
    first_pair: int


class Failures(NamedTuple):
    """`rows`: arm, kind (number of the class times KIND, and status) and end of each, None without any. `ends_ns`: of
    each arm, when its first and its last request ended.
    """

    rows: tuple[Ints, Ints, Ints] | None
    labels: Sequence[str]
    ends_ns: Sequence[Sequence[int]]


class Pairs(NamedTuple):
    """Rows of both arms that are one pair; how many pairs there are, whole or not; how many rows repeat a number."""

    first: Whole
    second: Whole
    every: int
    twice: int


def settle(
    kept: Kept, index: int, record: StageRecord | None, *, failures: Failures, last_ns: int, **known: Any
) -> tuple[int, StageCounts]:
    """The begin of the stage (of one without a plan, when its first request was due), and its counts."""
    first = min((int(due.min()) for due in kept.due_ns), default=0)
    begin = first if record is None else record.begin_ns
    cell_ns, cells = _cells(kept.due_ns, min(begin, first))
    statuses = _statuses(kept, min(begin, first), cell_ns, cells)
    seen = _joined(kept, index, min(begin, first), cell_ns)
    asked = [_whole(np.flatnonzero(seen.what // KIND == 2 * arm)) for arm in range(len(ARMS))]
    pairs = paired(seen.number, asked[0], asked[1])
    whole = int(((seen.what[pairs.first] % KIND != CANCELLED) & (seen.what[pairs.second] % KIND != CANCELLED)).sum())
    requests = len(asked[0]), len(asked[1])
    mode = bare_plan(index, requests, whole, 1.0).mode if record is None else record.plan.mode
    if mode != "paired":
        pairs = pairs._replace(first=pairs.first[:0], second=pairs.second[:0])
    closed = record is not None and record.plan.in_flight is not None
    held_s = _held_s(seen, asked, pairs) if closed else None
    lanes, sums, lost = _lanes(seen, asked, pairs)
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
        numbers=_numbers(seen, index),
        held_s=held_s,
        twice=pairs.twice,
        **known,
    )
    return begin, counts


def _cells(due_ns: Sequence[Ints], begin: int) -> tuple[int, int]:
    """How long a cell is, and how many there are."""
    span = max((int(due.max()) for due in due_ns), default=begin - 1) - begin
    cell_ns = BLOCK_NS * max(math.ceil((span // BLOCK_NS + 1) / MOST_CELLS), 1)
    return cell_ns, span // cell_ns + 1


def _statuses(kept: Kept, begin: int, cell_ns: int, cells: int) -> Ints:
    kinds = len(ARMS) * 2 * KIND
    size = max(cells, 1) * kinds
    found = np.zeros(size, np.int64)
    for what, due in zip(kept.what, kept.due_ns, strict=True):
        found += np.bincount((due - begin) // cell_ns * kinds + what, minlength=size)
    return np.moveaxis(found.reshape(-1, len(ARMS), 2, KIND), 0, -1)[:, :, : len(STATUSES)]


def _joined(kept: Kept, index: int, begin: int, cell_ns: int) -> Requests:
    """Column by column, and each piece as small as it can be before it is joined; the pieces are let go."""
    plain = all(pair.dtype == np.int32 for pair in kept.pair_id)
    base = index << 32 if plain else 0
    if not plain:
        kept.pair_id[:] = [p + np.int64(index << 32) if p.dtype == np.int32 else p for p in kept.pair_id]
    ends = [(int(pair.min()), int(pair.max())) for pair in map(_known, kept.pair_id) if len(pair)]
    low = min((least for least, _ in ends), default=0)
    if max((most for _, most in ends), default=low) - low < DENSE * sum(map(len, kept.pair_id)):
        numbers = _one([_whole(np.where(pair < 0, -1, pair - low)) for pair in kept.pair_id])
    else:
        named, numbers = np.unique(_one(kept.pair_id), return_inverse=True)
        numbers = _whole(numbers - int(np.searchsorted(named, 0)))
        numbers[numbers < 0] = -1
        low = -1
    kept.pair_id.clear()
    cell = _one([((due - begin) // cell_ns).astype(np.int16) for due in kept.due_ns])  # MOST_CELLS of them
    kept.due_ns.clear()
    codes = {metric: _one(kept.codes.pop(metric)) for metric in list(kept.codes)}
    what = _one(kept.what)
    kept.what.clear()
    return Requests(what, cell, numbers, codes, low if low < 0 else base + low)


def small(pair_id: Ints, index: int) -> npt.NDArray[Any]:
    """Numbers of the plan of a stage in four bytes each, without the stage; others as they are."""
    if len(pair_id) and index << 32 <= int(pair_id.min()) and int(pair_id.max()) < (index << 32) + (1 << 31):
        return (pair_id - (index << 32)).astype(np.int32)
    return pair_id


def _known(pair_id: Ints) -> Ints:
    known = pair_id >= 0
    return pair_id if known.all() else pair_id[known]


def _one(pieces: Sequence[Any]) -> Any:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int32)


def _whole(numbers: Ints) -> Whole:
    """In four bytes each: no memory holds two thousand million requests."""
    return numbers.astype(np.int32)


def paired(number: Whole, first: Whole, second: Whole) -> Pairs:
    """Of either arm's rows those that have the same number (-1 is none); of a number that comes twice, the first."""
    if number.min(initial=0) < 0:
        first, second = (rows[number[rows] >= 0] for rows in (first, second))
    size = max((int(number[rows].max()) + 1 for rows in (first, second) if len(rows)), default=0)
    where = []
    for rows in (first, second):
        held = np.full(size, -1, np.int32)
        held[number[rows[::-1]]] = rows[::-1]
        where.append(held)
    both = (where[0] >= 0) & (where[1] >= 0)
    distinct = [int((held >= 0).sum()) for held in where]
    every = sum(distinct) - int(both.sum())
    return Pairs(where[0][both], where[1][both], every, len(first) + len(second) - sum(distinct))


class _Lanes(NamedTuple):
    """As StageCounts has them."""

    lanes: dict[Lane, Histogram]
    sums: dict[Lane, Any]
    lost: dict[tuple[str, int], int]


def _lanes(seen: Requests, asked: Sequence[Whole], pairs: Pairs) -> _Lanes:
    # A pair belongs to the cell in which its first request was due.
    together = np.minimum(seen.cell[pairs.first], seen.cell[pairs.second])
    answered = (seen.what[pairs.first] % KIND == OK) & (seen.what[pairs.second] % KIND == OK)
    every = _Lanes({}, {}, {})

    def of(metric: str) -> _Lanes:
        found, codes = _Lanes({}, {}, {}), seen.codes.pop(metric)
        decoded = TOKENS if metric == "osl" else SECONDS
        known = codes != UNKNOWN
        both = known[pairs.first] & known[pairs.second]
        for arm, rows in enumerate(asked):
            parts = []
            if arm < 2 and len(pairs.first):
                mine = (pairs.first, pairs.second)[arm]
                parts.append((True, codes[mine[both]], together[both]))
                found.lost[metric, arm] = int((answered & known[mine] & ~both).sum())
                known[mine[both]] = False  # what is left has no partner
            alone = rows[known[rows]]
            parts.append((False, codes[alone], seen.cell[alone]))
            for of_pairs, values, cells in parts:
                if len(values):
                    lane = found.lanes[metric, arm, of_pairs] = Histogram.of(cells, values)
                    found.sums[metric, arm, of_pairs] = _by_cell(lane, decoded)
        return found

    with ThreadPoolExecutor(2) as threads:  # numpy works outside Python's lock
        for found in threads.map(of, list(seen.codes)):
            every.lanes.update(found.lanes)
            every.sums.update(found.sums)
            every.lost.update(found.lost)
    return every


def _by_cell(histogram: Histogram, decoded: Any) -> Any:
    return np.bincount(histogram.cell, histogram.count * decoded[histogram.bin])


def unpacked(counts: Ints) -> Histogram:
    """From one count for each code."""
    found = np.flatnonzero(counts)
    found = found[found != UNKNOWN]
    return Histogram(np.zeros(len(found), np.int32), found.astype(np.int32), counts[found])


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


def _numbers(seen: Requests, index: int) -> tuple[int, int] | None:
    """As `delivery.measure` has them: how many numbers of the plan were due, and seen."""
    planned = seen.what // KIND % 2 == 0
    number = seen.number if planned.all() else seen.number[planned]
    if not len(number) or seen.first_pair < 0 or int(number.min()) < 0 or seen.first_pair >> 32 != index:
        return None
    due = (seen.first_pair & 0xFFFFFFFF) + int(number.max()) + 1
    if due > DENSE * len(number) + 1000 or due > 1 << 32:
        return None
    found = np.zeros(int(number.max()) + 1, np.bool_)
    found[number] = True
    return due, int(found.sum())


def _held_s(seen: Requests, asked: Sequence[Whole], pairs: Pairs) -> float | None:
    """How long slots were in use: from the first request of a pair being due to the last being done."""
    codes = seen.codes.get("response_time")
    if codes is None:
        return None
    if len(pairs.first):
        return float(SECONDS[np.maximum(codes[pairs.first], codes[pairs.second])].sum())
    return float(sum(SECONDS[codes[rows]].sum() for rows in asked))
