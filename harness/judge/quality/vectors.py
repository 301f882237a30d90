"""Embeddings of both arms for the same inputs: how far they turned, and whether they still have the same neighbours.

The floor is what the baseline does to itself: inputs that it answered twice. An input that it answered once has none,
and there the candidate is charged with all of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.judge.quality.excess import Row
from harness.judge.quality.values import Values, prompt_of
from harness.judge.view import StageView

K = 10
MOST_INPUTS = 2000
"""So many inputs are each other's neighbours: a matrix of them is made."""

Matrix = npt.NDArray[np.float64]


@dataclass(slots=True)
class Vectors:
    """Of one input, in the order of the recording, all of length 1: the baseline's and the candidate's."""

    baseline: list[Matrix] = field(default_factory=list)
    candidate: list[Matrix] = field(default_factory=list)


def cosines(view: StageView) -> Values:
    """1 - cosine: of the baseline to its own first answer, and of the candidate to that."""
    found = _lack(view)
    for place, vectors in enumerate(_inputs(view, found)):
        first, *again = vectors.baseline
        found.floor |= bool(again)
        floor = float(np.mean([_distance(first, other) for other in again])) if again else 0.0
        found.rows += [(place, floor, _distance(first, vector)) for vector in vectors.candidate]
    return found


def neighbours(view: StageView) -> Values:
    """The share of an input's K nearest among the inputs of the run that are not its nearest any more."""
    found = _lack(view)
    inputs = _inputs(view, found)[:MOST_INPUTS]
    if len(inputs) <= 2 * K:
        found.lack = found.lack or f"{len(inputs)} different inputs; neighbours take at least {2 * K + 1}"
        return found
    baseline = _nearest(np.stack([vectors.baseline[0] for vectors in inputs]))
    again = _nearest(np.stack([vectors.baseline[-1] for vectors in inputs]))
    candidate = _nearest(np.stack([vectors.candidate[0] for vectors in inputs]))
    found.floor = any(len(vectors.baseline) > 1 for vectors in inputs)
    for place, (own, floor, other) in enumerate(zip(baseline, again, candidate, strict=True)):
        row: Row = (place, 1 - len(own & floor) / K, 1 - len(own & other) / K)
        found.rows.append(row)
    return found


def _distance(first: Matrix, second: Matrix) -> float:
    """1 - cosine of two of length 1, by their difference: exactly 0 where there is none."""
    difference = first - second
    return float(difference @ difference) / 2


def _nearest(matrix: Matrix) -> list[set[int]]:
    similar = matrix @ matrix.T
    np.fill_diagonal(similar, -np.inf)
    # A stable sort: of two that are equally near the first in the recording is taken, in both arms.
    return [set(row[:K].tolist()) for row in np.argsort(-similar, axis=1, kind="stable")]


def _lack(view: StageView) -> Values:
    any_vector = any(answer.vector is not None for answer in view.outputs)
    return Values(lack="" if any_vector else "no answer is recorded as a vector")


def _inputs(view: StageView, found: Values) -> list[Vectors]:
    """Inputs that both arms answered, with vectors of one length; counts what the candidate lacks in `found`."""
    key = prompt_of(view)
    inputs: defaultdict[Hashable, Vectors] = defaultdict(Vectors)
    for answer in view.outputs:
        if answer.arm == "baseline" and (vector := _unit(answer.vector)) is not None:
            inputs[key(answer)].baseline.append(vector)
    for answer in view.outputs:
        if answer.arm != "candidate" or answer.stage != view.index or key(answer) not in inputs:
            continue
        known = inputs[key(answer)]
        vector = _unit(answer.vector)
        if vector is None or len(vector) != len(known.baseline[0]):
            found.lost += 1
        else:
            found.held += 1
            known.candidate.append(vector)
    length = max((len(vectors.baseline[0]) for vectors in inputs.values()), default=0)
    return [each for each in inputs.values() if each.candidate and {len(v) for v in each.baseline} == {length}]


def _unit(vector: npt.NDArray[np.float32] | None) -> Matrix | None:
    """None of what has no direction."""
    if vector is None:
        return None
    wide = vector.astype(np.float64)
    length = float(np.linalg.norm(wide))
    return wide / length if 0 < length < np.inf else None
