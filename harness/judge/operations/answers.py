"""How far the answers of two servers lie apart, held against how far one server's own lie apart.

Every probe is asked twice on each server. The difference of a server's two answers is its floor: what it is for, chance
has made. Between two servers the difference of a probe is that of the nearest pair of their answers. It may be at most
twice the largest floor of the two: a floor is seen a few times only, so its largest value is a little too small. Where
the floor is 0, nothing may differ.

Floats differ by the largest absolute difference, relative to the largest magnitude of the output. Everything else
(text, token ids, labels) has no size: it is the same or it is not; a probe whose answer one of the servers does not
repeat says nothing about it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.tensors import decode

Output = Mapping[str, Any]  # name, datatype, shape, digest (of all bytes), raw (base64: all of them, or some values)
Answer = Sequence[Output]
Probe = Mapping[str, Any]  # seed, and two answers

FLOATS = ("FP16", "FP32", "FP64", "BF16")
SLACK = 2.0


@dataclass(frozen=True, slots=True)
class Apart:
    """The largest difference between two servers, and the most that was allowed, both relative.

    `differing`: outputs that are not the same and have no size, or no common shape. `compared`: outputs of probes that
    could be compared; `excused`: those that a server did not repeat.
    """

    difference: float
    floor: float
    differing: tuple[str, ...]
    compared: int
    excused: int

    @property
    def allowed(self) -> float:
        return SLACK * self.floor

    @property
    def same(self) -> bool:
        return not self.differing and self.difference <= self.allowed


def floor(probes: Sequence[Probe]) -> float:
    """The largest relative difference of float outputs between a server's two answers to the same probe."""
    worst = 0.0
    for probe in probes:
        for _, first, second in _pairs(*probe["answers"]):
            if first is not None and second is not None and _sized(first, second):
                worst = max(worst, _difference(first, second))
    return worst


def apart(ours: Sequence[Probe], theirs: Sequence[Probe]) -> Apart:
    """Two servers' answers to the same probes, in the same order."""
    worst, differing, compared, excused = 0.0, [], 0, 0
    for mine, other in zip(ours, theirs, strict=True):
        for name in _names(*mine["answers"], *other["answers"]):
            every = [_output(answer, name) for answer in (*mine["answers"], *other["answers"])]
            there = [output for output in every if output is not None]
            if len(there) == 4 and _sized(*there):
                compared += 1
                worst = max(worst, min(_difference(a, b) for a in there[:2] for b in there[2:]))
            elif _key(every[0]) != _key(every[1]) or _key(every[2]) != _key(every[3]):
                excused += 1
            else:
                compared += 1
                if _key(every[0]) != _key(every[2]):
                    differing.append(f"{name} of probe {mine['seed']}")
    return Apart(worst, max(floor(ours), floor(theirs)), tuple(differing), compared, excused)


def _pairs(first: Answer, second: Answer) -> Iterator[tuple[str, Output | None, Output | None]]:
    for name in _names(first, second):
        yield name, _output(first, name), _output(second, name)


def _names(*answers: Answer) -> list[str]:
    return list(dict.fromkeys(output["name"] for answer in answers for output in answer))


def _output(answer: Answer, name: str) -> Output | None:
    return next((output for output in answer if output["name"] == name), None)


def _key(output: Output | None) -> Any:
    return output and (output["datatype"], tuple(output["shape"]), output["digest"])


def _sized(*outputs: Output) -> bool:
    """Whether a difference between them is a number: floats of one type and shape."""
    kinds = {(output["datatype"], tuple(output["shape"])) for output in outputs}
    return len(kinds) == 1 and outputs[0]["datatype"] in FLOATS


def _difference(first: Output, second: Output) -> float:
    """Relative to the largest magnitude; infinite where one is no number and the other is."""
    if first["digest"] == second["digest"]:
        return 0.0
    a, b = _values(first), _values(second)
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return math.inf
    scale = float(max(np.abs(a[finite]).max(initial=0.0), np.abs(b[finite]).max(initial=0.0)))
    worst = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    if worst == 0.0:
        # They differ where only the digest looked.
        return math.inf if first["sampled"] else 0.0
    return worst / scale


def _values(output: Output) -> Any:
    return np.asarray(decode(output["datatype"], base64.b64decode(output["raw"])), np.float64)
