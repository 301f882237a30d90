"""The words about memory, on series whose answer is known."""

from __future__ import annotations

import random

import pytest

from harness.run.models.leak import FEWEST, Cycle, cost, trend

MIB = 2.0**20


def series(leak: float, count: int, noise: float = 0.5, seed: int = 1) -> list[Cycle]:
    """A load costs 100 MiB; each leaves `leak` MiB; the first one warms up by 30."""
    rng = random.Random(seed)

    def amount(base: float) -> float:
        return (base + rng.gauss(0, noise)) * MIB

    found = []
    for number in range(count):
        base = 500 + (30 if number else 0) + leak * number
        found.append(Cycle(amount(base), amount(base + 100), amount(530 + leak * (number + 1))))
    return found


def test_what_a_load_costs_is_the_median() -> None:
    cycles = series(0, 9)
    cycles[4] = Cycle(0, 9000 * MIB, 0)
    assert cost(cycles) / MIB == pytest.approx(100, abs=1)


def test_a_leak_is_found_and_measured() -> None:
    found = trend(series(3, 20))
    assert found.grows is True
    assert found.slope / MIB == pytest.approx(3, abs=0.2)
    assert found.low < found.slope < found.high
    assert found.sentence.startswith("memory is NOT returned: +2.97 MiB more after each cycle, 2.97% of a load (95 %")


def test_no_leak_is_rarely_called_one() -> None:
    alarms = sum(bool(trend(series(0, 20, seed=seed)).grows) for seed in range(200))
    assert alarms <= 12, "2.5 % is what the interval promises"


def test_the_first_cycle_warms_up_and_outliers_do_not_count() -> None:
    cycles = series(0, 20, noise=0.0)
    cycles[0] = Cycle(500 * MIB, 600 * MIB, 100 * MIB)
    cycles[10] = Cycle(530 * MIB, 630 * MIB, 900 * MIB)
    found = trend(cycles)
    assert (found.grows, found.slope) == (False, 0.0)
    assert found.sentence.startswith("no growth shown: +0 MiB more after each cycle")


def test_crumbs_are_no_leak() -> None:
    """As measured on a server that warms up: 0.03 MiB of 44 a cycle, and no noise that could hide it."""
    found = trend(series(0.03, 20, noise=0.0))
    assert found.grows is False
    assert found.low > 0
    assert found.sentence.startswith("memory is returned but for crumbs: +0.03 MiB more after each cycle, 0.03% of a")


@pytest.mark.parametrize("count", [1, 2, FEWEST])
def test_too_few_cycles_say_so(count: int) -> None:
    found = trend(series(50, count))
    assert found.grows is None
    assert "too few" in found.sentence


def test_enough_cycles_answer() -> None:
    assert trend(series(50, FEWEST + 1)).grows is True
