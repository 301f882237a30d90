"""The offset of another clock: exact where it can be, and never surer than it may be."""

from __future__ import annotations

import random

from harness.load.process.clock import DRIFT, Offset

MS = 1_000_000


def exchange(offset: Offset, at_ns: int, true_ns: int, there_ns: int, back_ns: int, thinking_ns: int = 0) -> None:
    heard = at_ns + there_ns + true_ns
    offset.add(at_ns, heard, heard + thinking_ns, at_ns + there_ns + thinking_ns + back_ns)


def test_equal_ways_give_the_exact_offset_however_long_the_answer_took() -> None:
    offset = Offset()
    exchange(offset, 1000, 777, 5 * MS, 5 * MS, thinking_ns=80 * MS)
    best = offset.best(1000 + 90 * MS)
    assert best
    assert best.offset_ns == 777
    assert best.error_ns == 5 * MS + 1


def test_the_truth_lies_within_the_error_whatever_the_ways() -> None:
    dice = random.Random(3)
    offset, now = Offset(), 0
    assert offset.best(0) is None
    assert offset.error_ns(0, 0) is None
    for _ in range(300):
        now += 250 * MS
        exchange(offset, now, -12_345 * MS, int(dice.expovariate(1 / (3 * MS))), int(dice.expovariate(1 / (3 * MS))))
        best = offset.best(now + 20 * MS)
        assert best
        assert abs(best.offset_ns - -12_345 * MS) <= best.error_ns
    assert best.error_ns < 3 * MS


def test_the_shortest_exchange_wins_until_it_is_old() -> None:
    offset = Offset()
    exchange(offset, 0, 0, MS, MS)
    exchange(offset, 10 * MS, 0, 20 * MS, 2 * MS)
    best = offset.best(60 * MS)
    assert best
    assert best.offset_ns == 0
    # By now the clocks may have drifted apart further than the newer one is uncertain.
    later = int(20 * MS / DRIFT)
    exchange(offset, later, 4 * MS, 3 * MS, 3 * MS)
    best = offset.best(later + 6 * MS)
    assert best
    assert best.offset_ns == 4 * MS


def test_the_error_of_an_offset_in_use_grows_with_the_drift() -> None:
    offset = Offset()
    exchange(offset, 0, 0, MS, MS)
    assert offset.error_ns(0, 2 * MS) == MS + 1
    exchange(offset, 3600_000 * MS, 50 * MS, MS, MS)
    error = offset.error_ns(0, 3600_002 * MS)
    assert error
    assert 49 * MS <= error <= 52 * MS


def test_impossible_stamps_are_left_out() -> None:
    offset = Offset()
    offset.add(100, 500, 400, 300)
    offset.add(100, 0, 1000, 300)
    assert len(offset) == 0
