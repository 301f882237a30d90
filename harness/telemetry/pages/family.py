"""What a family of metrics is to us: one name and one unit a quantity, whoever says it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """Our `metric`, the `factor` to our `unit`, and the `source` that it is of.

    `join`: several samples of one device add up, or the largest counts (a ratio, or one thing said twice).
    `choice`: of several families that say the same of one device the lowest counts. `each`: the label by whose values
    the parts are told besides (`metric.value`), where they are not 0.
    """

    source: str
    metric: str
    unit: str = "1"
    factor: float = 1.0
    join: Literal["sum", "max"] = "sum"
    choice: int = 0
    each: str = ""


Meaning = tuple[Family, float]


def nothing_absent(_: float) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Table:
    """The families of one origin. A counter's name is without its `_total`.

    `device`: whose a sample is. `by_label`: families that hold several quantities, by the values of one label.
    `special`: those of which a sample says several things. `absent`: numbers that stand for "not known".
    """

    device: Callable[[Labels], str]
    plain: Mapping[str, Family]
    by_label: Mapping[str, tuple[str, Mapping[str, Family]]] = field(default_factory=dict)
    special: Mapping[str, Callable[[Labels, float], Iterable[Meaning]]] = field(default_factory=dict)
    absent: Callable[[float], bool] = nothing_absent

    @property
    def names(self) -> set[str]:
        return {*self.plain, *self.by_label, *self.special}

    def meanings(self, name: str, labels: Labels, value: float) -> Iterable[Meaning]:
        """In our units."""
        if name in self.special:
            return self.special[name](labels, value)
        family = self.plain.get(name)
        if family is None:
            label, kinds = self.by_label[name]
            family = kinds.get(labels.get(label, ""))
        return () if family is None else ((family, value * family.factor),)


def served(labels: Labels) -> str:
    """`model/version`; a server of its own says `model_name` and no version."""
    model = labels.get("model", labels.get("model_name"))
    return "" if model is None else f"{model}/{labels.get('version', '')}"
