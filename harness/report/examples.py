"""Output quality in words and figures: how far answers differ, and the two that differ most, side by side."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from harness.report import words
from harness.report.quality import Example, Quality

_LONGEST = 1500  # characters of an answer that the page repeats
_BEFORE = 300  # of these, so many of what both begin with


class Side(NamedTuple):
    """`same`: what both answers begin with, whole words; `rest`: from the first word that differs on."""

    same: str
    rest: str


class Shown(NamedTuple):
    """`prompt`: its number, "" unknown; `kl` and `agreement` are "" where the answer was not scored."""

    stage: str
    pair: str
    prompt: str
    baseline: Side
    candidate: Side
    kl: str
    agreement: str


def section(found: Quality) -> dict[str, Any]:
    """What the template needs."""
    rows = []
    for arm, label in (("baseline", "baseline again (floor)"), ("candidate", "candidate")):
        kl, agreement = found.kl.get(arm), found.agreement.get(arm)
        if kl is None or agreement is None or not len(kl):
            continue
        rows.append(
            {
                "arm": label,
                "n": f"{len(kl):,}",
                "mean": words.number(float(kl.mean())),
                "median": words.number(float(np.median(kl))),
                "worst": words.number(float(kl.max())),
                "agreement": words.percent(float(agreement.mean())),
            }
        )
    return {
        "there": bool(found), "rows": rows, "examples": [shown(example) for example in found.examples],
        "pairs": found.pairs, "differing": found.differing,
        "share": words.percent(found.differing / found.pairs) if found.pairs else words.NONE,
    }  # fmt: skip


def shown(example: Example) -> Shown:
    baseline, candidate = sides(example.baseline, example.candidate)
    return Shown(
        stage=str(example.stage + 1),
        pair=str(example.pair_id & 0xFFFFFFFF),
        prompt=f"{example.prompt + 1}" if example.prompt >= 0 else "",
        baseline=baseline,
        candidate=candidate,
        kl="" if math.isnan(example.kl) else words.number(example.kl),
        agreement="" if math.isnan(example.agreement) else words.percent(example.agreement),
    )


def sides(first: str, second: str) -> tuple[Side, Side]:
    """Both answers, each parted where they first differ."""
    differ = (n for n, (left, right) in enumerate(zip(first, second, strict=False)) if left != right)
    place = next(differ, min(len(first), len(second)))
    while 0 < place < max(len(first), len(second)) and not first[place - 1].isspace():
        place -= 1  # a word that differs in its end differs as a whole
    same = first[:place]
    if len(same) > _BEFORE and place < max(len(first), len(second)):
        same = "(cut) … " + same[-_BEFORE:]
    same = _cut(same, _LONGEST)
    return Side(same, _cut(first[place:], _LONGEST - len(same))), Side(same, _cut(second[place:], _LONGEST - len(same)))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + " … (cut)"
