"""A gate on its way to a finding: first its evidence of harm, then its words, once all gates are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.types import Finding


@dataclass(frozen=True, slots=True)
class Rule:
    """`p_worse`: p-value (looks already counted) of "the candidate is not worse than allowed".

    `finding(alpha)`: the finding, failed at that level, or with None not failed.
    """

    p_worse: float
    finding: Callable[[float | None], Finding]
    critical: bool = True


def settled(finding: Finding, *, critical: bool = True) -> Rule:
    """A rule that cannot fail any more: its finding is what it is."""
    return Rule(1.0, lambda _alpha: finding, critical)


def family(rules: Sequence[Rule], alpha: float) -> tuple[tuple[Finding, bool], ...]:
    """Holm over all critical rules at a total of `alpha`; each finding with whether it is critical.

    The smallest p-value is held against alpha/m, the next against alpha/(m - 1), until one does not fail.
    Every critical gate counts in m, whether or not it can be judged yet: m must not depend on the data.
    """
    critical = [i for i, rule in enumerate(rules) if rule.critical]
    levels: dict[int, float] = {}
    for rank, i in enumerate(sorted(critical, key=lambda i: (rules[i].p_worse, i))):
        level = alpha / (len(critical) - rank)
        if rules[i].p_worse > level:
            break
        levels[i] = level
    return tuple((rule.finding(levels.get(i)), rule.critical) for i, rule in enumerate(rules))
