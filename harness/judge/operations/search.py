"""The search for the highest load that holds: which load to try next, and what was found. Pure.

Twice as much each time, from the low end, until a trial misses; bisection on the scale of ln between the last that did
not and the first that did, down to the precision; and a longer trial of the highest that held, stepping down where it
does not hold again. Where not even the low end held, it gets that longer trial, and if it holds then, doubling goes on
from there. A load counts as one that holds only if a trial showed it: still undecided after its repeats, it does not.
While doubling nothing is claimed, so there a trial without anything against it is enough to go on.

The answer rests on a confirming trial alone, which was not chosen by its own outcome: the highest of many that held
would too often be one that held by luck (the winner's curse). A search is a generator: it yields what to try, and is
sent how that went; so the same trials always lead to the same answer, also when they are judged again.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.judge.operations.trials import Judged, judge_trial, least_requests

Facts = Mapping[str, Any]

Purpose = Literal["bracket", "bisect", "confirm"]
Ended = Literal["found", "at least", "below", "undecided", "behind"]

ENOUGH, MOST_LONGER = 2.0, 4.0
"""A trial is planned for so many times the requests that it takes at least, but no more than so many times as long."""
CONFIRM, LEAST_CONFIRM = 2.0, 3.0
"""The last trial is so many times as long as another at that load, and as was asked for at least."""
STEPS_DOWN = 6


@dataclass(frozen=True)
class Ask:
    """Try `level` (requests a second, or in flight) for `seconds`."""

    level: float
    seconds: float
    purpose: Purpose


@dataclass(frozen=True)
class Answer:
    """How a search ended.

    found: `level` holds. at least: it holds, and more was not tried or could not be sent. below: the low end misses.
    undecided: no load was shown to hold. behind: none could be sent as asked. `trial`: on which it rests;
    `beyond`: the trial at the lowest load that was not shown to hold; both count from 0.
    """

    ended: Ended
    level: float | None = None
    trial: int | None = None
    beyond: int | None = None


@dataclass
class Search:
    """`facts` has `between`, `trial_s`, `precision`, `confidence`, `repeats`, `open_loop` and `objectives`; and
    `memory`, the limit on it, if there is one.
    """

    facts: Facts
    outcomes: list[Judged] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    _confirmed: dict[float, int] = field(default_factory=dict)
    _behind: bool = False

    def run(self) -> Generator[Ask, Judged, Answer]:
        low = self.facts["between"][0]
        passed, missed = yield from self._bracket(low)
        held, missed = yield from self._shown(passed, missed)
        if held is None:
            if not (yield from self._low_end(low)):
                return self._none("below")
            held, missed = low, None
            if not self._behind:  # it was chance that it did not hold before: what lies above has not been tried
                passed, missed = yield from self._bracket(self._next(low), [low])
                held, missed = yield from self._shown(passed, missed)
            assert held is not None
        while missed is not None and not self._behind and not self._close(held, missed):
            level = self._level(math.sqrt(held * missed))
            found = yield from self._trial(level, "bisect")
            held, missed = (level, missed) if found.outcome == "holds" else (held, level)
        return (yield from self._confirm(held))

    def _bracket(
        self, level: float, passed: Sequence[float] = ()
    ) -> Generator[Ask, Judged, tuple[list[float], float | None]]:
        """The levels with nothing against them, and the first with something; None where there is none."""
        found = list(passed)
        while level not in found:
            trial = yield from self._trial(level, "bracket")
            if not _nothing_against(trial):
                return found, None if self._behind else level
            found.append(level)
            level = self._next(level)
        return found, None

    def _next(self, level: float) -> float:
        high: float = self.facts["between"][1]
        return min(2 * level, high)

    def _shown(
        self, passed: list[float], missed: float | None
    ) -> Generator[Ask, Judged, tuple[float | None, float | None]]:
        """The highest level of the bracket that is shown to hold, and the next one that is not."""
        shown = {level for level, found in zip(self.levels, self.outcomes, strict=True) if found.outcome == "holds"}
        for level in reversed(passed):
            if level in shown:
                return level, missed
            found = yield from self._trial(level, "bisect")
            if found.outcome == "holds":
                return level, missed
            missed = level
        return None, missed

    def _low_end(self, low: float) -> Generator[Ask, Judged, bool]:
        """Not even the low end was shown to hold: once more, for longer."""
        if self.outcomes[-1].outcome == "behind":
            return False
        return (yield from self._trial(low, "confirm")).outcome == "holds"

    def _confirm(self, level: float) -> Generator[Ask, Judged, Answer]:
        low = self.facts["between"][0]
        for _ in range(STEPS_DOWN):
            if level not in self._confirmed:
                yield from self._trial(level, "confirm")
            if level in self._confirmed:
                beyond = self._beyond(level)
                ended: Ended = "at least" if self._behind or beyond is None else "found"
                return Answer(ended, level, self._confirmed[level], beyond)
            if level <= low:
                break
            level = max(self._level(level / (1 + self.facts["precision"]), down=True), low)
        return self._none("undecided")

    def _none(self, missed: Ended) -> Answer:
        """No load was shown to hold, by the last trial; `missed`: what it means where that missed."""
        ended: dict[str, Ended] = {"behind": "behind", "misses": missed}
        return Answer(ended.get(self.outcomes[-1].outcome, "undecided"), beyond=len(self.levels) - 1)

    def _trial(self, level: float, purpose: Purpose) -> Generator[Ask, Judged, Judged]:
        """A trial, repeated while it does not tell. Doubling, what leans towards holding tells enough; confirming,
        what does not.
        """
        seconds = self._seconds(level, purpose)
        for _ in range(self.facts["repeats"] + 1):
            found = yield Ask(level, round(seconds, 1), purpose)
            self.outcomes.append(found)
            self.levels.append(level)
            if found.outcome == "holds" and purpose == "confirm":
                self._confirmed[level] = len(self.levels) - 1
            if found.outcome in ("holds", "misses"):
                break
            if found.outcome == "undecided" and found.leans == {"bracket": True, "confirm": False}.get(purpose):
                break
            # More requests tell more; a generator that was late is given another chance.
            seconds *= 2 if found.outcome == "undecided" else 1
        self._behind = self._behind or found.outcome == "behind"
        return found

    def _seconds(self, level: float, purpose: Purpose) -> float:
        """Long enough for the requests that it takes, as far as the trial before tells how much one is worth."""
        asked = float(self.facts["trial_s"])
        if purpose == "bracket":
            return asked
        # Requests that all come too late resemble each other, whatever they would do at a load that holds.
        before = next((found for found in reversed(self.outcomes) if found.leans), self.outcomes[-1])
        rate = level if self.facts["open_loop"] else before.done
        effect = max(share.effect for share in before.shares)
        wanted = ENOUGH * effect * least_requests(self.facts["objectives"], confidence(self.facts, purpose))
        long = min(max(asked, wanted / max(rate, 1e-3)), MOST_LONGER * asked)
        return max(LEAST_CONFIRM * asked, CONFIRM * long) if purpose == "confirm" else long

    def _level(self, level: float, *, down: bool = False) -> float:
        """As it is asked: few digits, or whole."""
        if not self.facts["open_loop"]:
            return math.floor(level) if down else round(level)
        return float(f"{level:.{3 if self.facts['precision'] >= 0.03 else 4}g}")

    def _close(self, held: float, missed: float) -> bool:
        if not self.facts["open_loop"] and missed - held <= 1:
            return True
        return missed <= held * (1 + self.facts["precision"]) or self._level(math.sqrt(held * missed)) in (held, missed)

    def _beyond(self, level: float) -> int | None:
        """The last trial at the lowest level above `level` that was not shown to hold in its last trial."""
        last = {other: i for i, other in enumerate(self.levels) if other > level}
        above = [i for i in last.values() if self.outcomes[i].outcome != "holds"]
        return min(above, key=lambda i: self.levels[i], default=None)


def confidence(facts: Facts, purpose: Purpose) -> float:
    """That a trial is judged with. Each repeat of a confirming one is another chance to hold by luck: they share what
    may go wrong (Bonferroni).
    """
    sure = float(facts["confidence"])
    return 1 - (1 - sure) / (facts["repeats"] + 1) if purpose == "confirm" else sure


def judged(facts: Facts, trial: Facts) -> Judged:
    """The outcome of one trial of a search."""
    return judge_trial(trial, facts["objectives"], confidence(facts, trial["purpose"]), facts.get("memory"))


def replay(facts: Facts, trials: Iterable[Facts]) -> tuple[Sequence[Judged], Answer | None]:
    """The outcome of every recorded trial, and where they lead; None where the search was cut short."""
    search = Search(facts)
    steps = search.run()
    next(steps)
    for trial in trials:
        try:
            steps.send(judged(facts, trial))
        except StopIteration as ended:
            return search.outcomes, ended.value
    return search.outcomes, None


def _nothing_against(found: Judged) -> bool:
    return found.outcome == "holds" or (found.outcome == "undecided" and found.leans)
