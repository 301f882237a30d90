"""From an A/B test's units to the arm of each: what its client's header says, else the hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.scenario.plan.rendezvous import arm_of, uniform
from harness.types import ArmName, Assignment, Experiment

ARMS: Mapping[str, ArmName] = {"A": "baseline", "B": "candidate"}
"""By the value of the header."""


def drawn(count: int, salt: str, share_b: float, labelled: float, zipf: float) -> Experiment:
    """`count` units, of which each request draws one. A share of `labelled` sends the header, half A and half B.

    `zipf`: the n-th most active unit is drawn 1 / n^zipf as often as the first; 0: all are alike.
    """
    units = tuple(f"u{number:0{len(str(count))}d}" for number in range(1, count + 1))
    labels = {unit: _label(salt, unit) for unit in units if uniform(salt, unit, "labelled") < labelled}
    activity = tuple((number + 1) ** -zipf for number in range(count)) if zipf else ()
    return _assigned(units, salt, share_b, labels, activity=activity)


def of_prompts(named: Sequence[tuple[str, str]], salt: str, share_b: float) -> Experiment:
    """The units of a file's prompts, in the order in which they first appear. `named`: of each prompt its unit, and the
    value of the header that its client sends ("" if it sends none).
    """
    labels = {unit: label for unit, label in named if label}
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(unit for unit, _ in named))}
    return _assigned(tuple(numbers), salt, share_b, labels, of=tuple(numbers[unit] for unit, _ in named))


def _label(salt: str, unit: str) -> str:
    """What a client that was told its arm once, by a fair coin, sends from then on."""
    return "A" if uniform(salt, unit, "label") < 0.5 else "B"


def _assigned(
    units: tuple[str, ...], salt: str, share_b: float, labels: Mapping[str, str], *, of: tuple[int, ...] = (),
    activity: tuple[float, ...] = (),
) -> Experiment:  # fmt: skip
    weights = {"A": 1 - share_b, "B": share_b}
    arms = [ARMS[labels.get(unit) or arm_of(salt, unit, weights)] for unit in units]
    how: list[Assignment] = ["header" if unit in labels else "hash" for unit in units]
    return Experiment(units, tuple(arms), tuple(how), of, activity)
