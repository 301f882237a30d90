"""The event loop, on the real clock: order and completeness, not speed (tests/bench has that)."""

from __future__ import annotations

import os
import threading
import time
from itertools import pairwise

import pytest

from harness.load.engine.loop import MAX_LEAD_NS, MIN_LEAD_NS, MOST_PUT_OFF_NS, READ, Loop
from tests.load.engine.conftest import run_until


def test_timers_fire_in_order_never_early_and_cancelled_ones_not_at_all(loop: Loop) -> None:
    fired: list[tuple[str, int]] = []
    now = loop.now_ns()
    dues = {"c": now + 30_000_000, "a": now + 10_000_000, "b": now + 10_000_000, "d": now + 31_000_000}
    for name, due_ns in dues.items():
        loop.at(due_ns, lambda name=name: fired.append((name, loop.now_ns())))
    loop.at(now + 20_000_000, fired.append, ("never", 0)).cancel()
    run_until(loop, lambda: len(fired) == 4)
    assert [name for name, _ in fired] == ["a", "b", "c", "d"]
    assert all(t_ns >= dues[name] for name, t_ns in fired)


def test_what_a_timer_makes_due_waits_until_the_sockets_had_their_turn(loop: Loop) -> None:
    """A generator that is behind would otherwise send for ever and read nothing."""
    read, write = os.pipe()
    seen: list[str] = []

    def busy() -> None:
        if len(seen) < 1000 and "readable" not in seen:
            seen.append("busy")
            loop.at(0, busy)

    def readable(_: int) -> None:
        os.read(read, 1)
        seen.append("readable")

    loop.watch(read, READ, readable)
    os.write(write, b"x")
    loop.at(0, busy)
    run_until(loop, lambda: "readable" in seen)
    assert seen.index("readable") < 10
    loop.forget(read)
    os.close(read)
    os.close(write)


def test_other_threads_post_and_wake_a_sleeping_loop(loop: Loop) -> None:
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: [loop.post(seen.append, n) for _ in range(200)], daemon=True)
        for n in range(4)
    ]
    threading.Timer(0.05, lambda: [thread.start() for thread in threads]).start()
    # Nothing else is due: only the posts can wake it.
    loop.post(lambda: None)
    stopper = threading.Timer(60, lambda: loop.post(loop.stop))
    stopper.daemon = True
    stopper.start()

    def look() -> None:
        if len(seen) == 800:
            loop.stop()
        else:
            loop.after(0.005, look)

    look()
    loop.run()
    stopper.cancel()
    assert sorted(seen) == sorted([0, 1, 2, 3] * 200)


def test_idle_work_gives_way_to_what_is_due(loop: Loop) -> None:
    work, late = [0], []

    def idle() -> bool:
        work[0] += 1
        time.sleep(0.00005)
        return work[0] < 500

    loop.when_idle(idle)
    begin = loop.now_ns()
    for n in range(1, 20):
        due_ns = begin + n * 1_000_000
        loop.at(due_ns, lambda due_ns=due_ns: late.append(work[0]))
    run_until(loop, lambda: work[0] == 500 and len(late) == 19)
    assert late[0] < 500, "timers had their turn while there was idle work left"


def test_one_long_piece_does_not_end_idle_work(loop: Loop) -> None:
    """The machine stands still for 120 ms in a piece of it, and something is due every 5 ms: there is room."""
    pieces: list[int] = []
    ticks = [0]

    def idle() -> bool:
        if not pieces:
            time.sleep(0.12)
        pieces.append(ticks[0])
        return len(pieces) < 200

    def tick() -> None:
        ticks[0] += 1
        loop.after(0.005, tick)

    tick()
    loop.when_idle(idle)
    run_until(loop, lambda: len(pieces) == 200, 20.0)
    assert pieces[1] - pieces[0] <= 2


def test_idle_work_is_put_off_for_what_is_due_but_not_for_ever(loop: Loop) -> None:
    """Something is due within 0.1 ms all the time, which is less than a piece is given."""
    pieces: list[int] = []

    def idle() -> bool:
        pieces.append(loop.now_ns())
        return len(pieces) < 4

    def tick() -> None:
        loop.at(loop.now_ns() + 100_000, tick)

    tick()
    loop.when_idle(idle)
    run_until(loop, lambda: len(pieces) == 4, 20.0)
    assert all(later - earlier >= MOST_PUT_OFF_NS for earlier, later in pairwise(pieces))


def test_what_is_due_at_once_again_and_again_does_not_stand_before_what_was_due_earlier(loop: Loop) -> None:
    fired: list[int] = []
    in_time: list[bool] = []
    end = time.monotonic() + 10

    def again() -> None:
        if not fired and time.monotonic() < end:
            loop.at(0, again)
        else:
            in_time.append(bool(fired))
            loop.stop()

    loop.after(0.01, fired.append, 1)
    again()
    loop.run()
    assert in_time == [True]


def test_an_exception_in_a_callback_ends_run(loop: Loop) -> None:
    loop.at(0, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.run()


def test_a_long_turn_is_counted_as_a_stall_and_the_lead_stays_in_bounds(loop: Loop) -> None:
    done: list[int] = []
    loop.after(0.01, time.sleep, 0.05)
    loop.after(0.1, done.append, 1)
    run_until(loop, lambda: bool(done))
    assert loop.stalls >= 1
    assert loop.take_worst() >= 50_000_000
    assert loop.take_worst() == 0
    assert MIN_LEAD_NS <= loop.lead_ns <= MAX_LEAD_NS


def test_what_a_turn_did_before_it_starts_over_is_no_stall(loop: Loop) -> None:
    done: list[int] = []

    def collect() -> None:
        time.sleep(1.0)
        loop.start_over()

    loop.after(0.01, collect)
    loop.after(0.1, done.append, 1)
    run_until(loop, lambda: bool(done))
    assert loop.take_worst() < 1_000_000_000


def test_what_was_forgotten_is_not_called_any_more(loop: Loop) -> None:
    """Also where both are ready in the same turn."""
    ends = [os.pipe() for _ in range(2)]
    seen: list[int] = []

    def first_come(n: int) -> None:
        seen.append(n)
        for read, _ in ends:
            loop.forget(read)

    for n, (read, write) in enumerate(ends):
        loop.watch(read, READ, lambda _, n=n: first_come(n))
        os.write(write, b"x")
    run_until(loop, lambda: bool(seen))
    loop.after(0.01, seen.append, 99)
    run_until(loop, lambda: 99 in seen)
    assert len(seen) == 2
    for read, write in ends:
        os.close(read)
        os.close(write)


def test_a_post_after_the_end_touches_no_file_of_somebody_else() -> None:
    loop = Loop(0)
    loop.close()
    loop.post(lambda: None)
