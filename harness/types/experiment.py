"""An A/B test: units (users, sessions), the arm of each, and what may be said in the end.

In recordings and plans A is the baseline and B the candidate: the words that every file of a run has for two arms.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.types.words import ArmName, Assignment

A_BETTER, B_BETTER = "A better", "B better"
NO_DIFFERENCE = "no difference within the margin"
NOT_ENOUGH = "not enough"
A_MORE, B_MORE = "A higher", "B higher"
MIXED = "A better in some, B better in others"
NOTHING = "nothing can be said"
ANSWERS = (A_BETTER, B_BETTER, NO_DIFFERENCE, NOT_ENOUGH, A_MORE, B_MORE, MIXED, NOTHING)
"""The reason of an A/B test's verdict, and of each effect, begins with one of these and a colon. "A higher" is said of
a metric of which neither more nor less is better; "nothing can be said" where the experiment itself is broken.
"""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What a gateway does that keeps a unit with its arm, worked out for every unit before the first request leaves.

    Of each unit its name, its arm, and how it came to it: "header" (its client names the arm), "hash". `of_prompts`:
    the unit of each prompt, by index; () where each request draws its unit. `activity`: how often each is drawn,
    relatively; () where all are drawn as often.
    """

    units: tuple[str, ...]
    arms: tuple[ArmName, ...]
    assignments: tuple[Assignment, ...]
    of_prompts: tuple[int, ...] = ()
    activity: tuple[float, ...] = ()


def answer_in(reason: str) -> str:
    """The answer with which a reason begins; "" where it begins with none."""
    head = reason.partition(":")[0]
    return head if head in ANSWERS else ""
