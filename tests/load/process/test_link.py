"""Once and in order, whatever the channel does."""

from __future__ import annotations

import random

import pytest

from harness.load.process.link import RESEND_NS, WINDOW, Link


def test_a_message_is_taken_once_and_then_confirmed() -> None:
    here, there = Link(), Link()
    here.put({"do": "a"})
    sent = here.due(0)
    assert there.take(sent) == [{"do": "a"}]
    assert there.take(sent) == []
    assert not here.empty
    here.confirm(there.seen)
    assert here.empty
    assert here.due(10 * RESEND_NS) == []


def test_nothing_is_sent_again_before_its_time_and_then_all_of_it() -> None:
    link = Link()
    link.put({"n": 1})
    link.put({"n": 2})
    assert [number for number, _ in link.due(0)] == [1, 2]
    link.put({"n": 3})
    assert [number for number, _ in link.due(RESEND_NS - 1)] == [3]
    assert [number for number, _ in link.due(RESEND_NS)] == [1, 2, 3]
    # A slow line is not made slower: the next repeat waits twice as long.
    assert link.due(2 * RESEND_NS) == []
    assert [number for number, _ in link.due(3 * RESEND_NS)] == [1, 2, 3]


def test_a_window_bounds_what_is_on_its_way() -> None:
    here, there = Link(), Link()
    for n in range(3 * WINDOW):
        here.put({"n": n})
    assert len(here.due(0)) == WINDOW
    assert here.due(1) == []
    for _ in range(3):
        there.take(here.due(0))
        here.rewind()
        there.take(here.due(0))
        here.confirm(there.seen)
    assert here.empty
    assert there.seen == 3 * WINDOW


def test_behind_a_gap_nothing_is_taken() -> None:
    here, there = Link(), Link()
    for n in range(3):
        here.put({"n": n})
    first, second, third = here.due(0)
    assert there.take([second, third]) == []
    assert there.take([first, third]) == [{"n": 0}]
    assert there.take([second, third]) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("seed", range(20))
def test_over_a_channel_that_loses_repeats_and_reorders(seed: int) -> None:
    dice = random.Random(seed)
    here, there = Link(), Link()
    taken, number, now_ns = [], 0, 0
    late: list[list[tuple[int, dict[str, int]]]] = []
    while number < 200 or not here.empty:
        now_ns += RESEND_NS // 10
        for _ in range(dice.randrange(4)):
            if number < 200:
                here.put({"n": number})
                number += 1
        if due := here.due(now_ns):
            late += [due] * dice.choice((0, 1, 1, 2))
        dice.shuffle(late)
        while late and dice.random() < 0.7:
            taken += there.take(late.pop())
        if dice.random() < 0.6:
            here.confirm(there.seen)
        assert now_ns < 10_000 * RESEND_NS, "does not come to an end"
    assert taken == [{"n": n} for n in range(200)]


def test_after_a_cut_the_patience_is_a_new_one() -> None:
    link = Link()
    link.put({"n": 1})
    for seconds in (0, 2, 6, 14, 30):
        assert link.due(seconds * RESEND_NS // 2)
    link.rewind()
    assert link.due(31 * RESEND_NS // 2)
    assert link.due(31 * RESEND_NS // 2 + RESEND_NS)
