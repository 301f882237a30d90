"""How much more memory the candidate takes than the baseline, at the longest context that both answered. Pure.

What is compared is what the versions take themselves: memory of other processes on the same GPUs, seen while neither
was loaded, counts for neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.judge import words
from harness.judge.operations.facts import fact
from harness.judge.operations.long_fits import proven
from harness.types import Finding, Outcome

Facts = Mapping[str, Any]
Climbed = Callable[[str, int], list[Facts]]
"""The points of the ramp of a version at a batch."""


def long_margin(observations: Facts, batch: int, climbed: Climbed) -> list[Finding]:
    """`memory.margin`, where one is set. `batch`: the candidate's at the goal, as it is now."""
    margin, arms, goal = observations["limits"]["margin"], observations["arms"], observations["goal"]
    if margin is None:
        return []
    if "baseline" not in arms:
        return [_none("No version before it was measured")]
    theirs, ours = arms["baseline"], arms["candidate"]
    if theirs["load_error"]:
        return [_none(f"{_who(theirs)} cannot be loaded: {theirs['load_error']}")]
    if batch != goal["batch"]:
        return [_none("The batch was reduced: at the goal's, nothing of both versions is to be compared")]
    if (one := theirs.get("watched")) and (two := ours.get("watched")) and one["metric"] != two["metric"]:
        return [_none(f"Not the same was read of both: {one['what']}, and {two['what']}")]
    both = {
        name: {point["context"]: point for point in climbed(name, batch) if proven(point) >= point["context"]}
        for name in ("baseline", "candidate")
    }
    contexts = [context for context in both["candidate"] if context in both["baseline"] and context <= goal["context"]]
    if not contexts:
        return [_none("No context of the ramp was answered by both versions")]
    context = max(contexts)
    one, two = (_most(arm, climbed(name, batch), context) for name, arm in (("baseline", theirs), ("candidate", ours)))
    if one is None or two is None or min(one, two) <= 0:
        return [_none("The memory of one of the versions could not be read")]
    ratio = two / one
    said = (
        f"{context} tokens at batch {batch} take {_more(ratio)} memory on {_who(ours)} than on {_who(theirs)} "
        f"({_size(ours, two)} against {_size(theirs, one)}{_others(ours)}), margin {words.margin(margin)}"
    )
    outcome: Outcome = "pass" if ratio <= 1 + margin else "fail"
    return [
        Finding(
            "memory.margin", outcome, said, kind="watch", effect=ratio, margin=1 + margin, baseline=one, candidate=two
        )
    ]


def taken_by_others(arm: Facts, device: str) -> float:
    """What others held of a device while the version was not loaded."""
    watched = arm.get("watched") or {}
    return float((watched.get("others") or {}).get(device, 0.0))


def _most(arm: Facts, points: list[Facts], context: int) -> float | None:
    """Over all its devices, at the most; None where one of them was not read."""
    capacity = (arm.get("watched") or {}).get("capacity") or {}
    mine = [point["peak"] for point in points if point["context"] == context and point["outcome"] == "ok"]
    if not capacity or not mine or any(device not in peak for peak in mine for device in capacity):
        return None
    return max(sum(float(peak[device]) - taken_by_others(arm, device) for device in capacity) for peak in mine)


def _none(why: str) -> Finding:
    return fact("memory.margin", "no data", why)


def _more(ratio: float) -> str:
    return f"{words.percent(ratio - 1)} more" if ratio >= 1 else f"{words.percent(1 - ratio)} less"


def _size(arm: Facts, value: float) -> str:
    if arm["watched"]["preallocated"]:
        return words.percent(value)
    return f"{value / 2**30:.3g} GiB" if value >= 2**30 else f"{value / 2**20:.4g} MiB"


def _others(arm: Facts) -> str:
    held = sum(taken_by_others(arm, device) for device in arm["watched"]["capacity"])
    return f", without the {_size(arm, held)} of others" if held else ""


def _who(arm: Facts) -> str:
    return f"{arm['model']} version {arm['version']}"
