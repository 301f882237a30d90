"""What a scorer is, and how one is made from its description."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import CanaryError

GROUP = "triton_canary.scorers"
"""The entry point group of installed scorers."""


class ScorerFailed(CanaryError):
    """No scores: the scorer cannot be found, raised, ended badly, or gave what are no scores."""


class Case(NamedTuple):
    """One answer to be scored. `expected`: any JSON value, None where the prompt expects nothing; `tool_calls`: a JSON
    list of {"name", "arguments"}, "" without any.
    """

    prompt: str
    answer: str
    expected: Any = None
    tool_calls: str = ""


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """As the scenario describes it: `use` or `command`. `expects`: cases without `expected` are not scored."""

    name: str
    use: str | None = None
    command: tuple[str, ...] = ()
    pattern: str | None = None
    schema: Path | None = None
    timeout_s: float = 60.0
    folder: Path = Path()
    expects: bool = False


Scorer = Callable[[Sequence[Case]], Sequence[float]]
"""A score for each case, in their order. Raises ScorerFailed."""


def make(spec: ScorerSpec) -> Scorer:
    """The scorer of a description; what it returns is checked. Raises ScorerFailed where there is none."""
    # Here and not above: they need the words of this file.
    from harness.scoring.built_in import BUILT_IN, built_in
    from harness.scoring.own import command, function

    if spec.command:
        score = command(spec.command, spec.folder, spec.timeout_s)
    elif spec.use in BUILT_IN:
        score = built_in(spec)
    else:
        score = function(spec.use or "")
    return lambda cases: checked(score(cases), len(cases))


def checked(scores: Sequence[Any], wanted: int) -> list[float]:
    """As floats, if they are `wanted` numbers from 0 to 1 (true and false are 1 and 0). Raises ScorerFailed."""
    if len(scores) != wanted:
        raise ScorerFailed(f"expected {wanted} scores, found {len(scores)}")
    for number, score in enumerate(scores, 1):
        if not isinstance(score, int | float) or not math.isfinite(score) or not 0 <= score <= 1:
            raise ScorerFailed(f"answer {number}: expected a score from 0 to 1, found {score!r:.80}")
    return [float(score) for score in scores]
