"""What is known of a recording that another tool made: which tool, whose tokens, and how two runs were put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.types import ArmName


@dataclass(frozen=True, slots=True)
class ImportedArm:
    """Where the requests of one arm come from.

    `file`: its name. `tool`: as sentences name it. `loads`: what the tool was asked for in each stage, as it words it;
    "" where the file does not say. `tokens`: whose count `isl` and `osl` are; "" where nobody counted. `notes`: clauses
    on what the file lacks or had to be left out. `step_ns`: the least difference between two times that it can tell.
    `loses`: which requests are never in such a file, and so prove nothing by their absence; "" if all are.
    `left_out`: requests outside the time that both arms have in common, `left_out_failed` those of them that failed.
    """

    file: str
    tool: str
    loads: tuple[str, ...] = ()
    tokens: str = ""
    notes: tuple[str, ...] = ()
    step_ns: int = 1
    loses: str = ""
    left_out: int = 0
    left_out_failed: int = 0


@dataclass(frozen=True, slots=True)
class Imported:
    """`together`: both arms ran at the same time. Otherwise one after the other, each counted from its own begin."""

    arms: Mapping[ArmName, ImportedArm]
    together: bool

    def meta(self) -> dict[str, Any]:
        """For the meta of a recording, under "imported"."""
        return {"together": self.together, "arms": {name: asdict(arm) for name, arm in self.arms.items()}}


def imported(meta: Mapping[str, Any]) -> Imported | None:
    """What `Imported.meta` wrote; None for a recording of our own."""
    found = meta.get("imported")
    if not isinstance(found, Mapping):
        return None
    arms = {name: ImportedArm(**_tuples(arm)) for name, arm in found["arms"].items()}
    return Imported(arms, bool(found["together"]))


def _tuples(arm: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list | tuple) else value for key, value in arm.items()}
