"""All requests of a recording as a page needs them, in one pass.

Guarantee: up to MOST_EXACT requests every quantile is the exact one (numpy's linear interpolation), so what a page says
agrees with what the judge says of the same requests. Of more, times are counted in bins of 0.1 % (`recording.codes`)
by arm, stage and short bin of time: each stands within 0.05 % of what was measured, and memory depends on the number of
bins and stages. Everything else (counts, points, when an error came first) is exact in both. The same rows give the
same figures, however they are cut into batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from harness.recording.codes import CODES, SECONDS, UNKNOWN, code_of
from harness.report.requests.chunks import gaps
from harness.report.requests.kinds import Kinds
from harness.report.requests.reading import TIMES, Piece, pieces
from harness.report.requests.sampling import Sampler
from harness.report.requests.spread import Floats, Ints, Spread
from harness.report.requests.summary import ARMS, METRICS, Cell, Requests

if TYPE_CHECKING:
    from harness.recording import Recording

MOST_EXACT = 2_000_000


def requests(
    recording: Recording, edges: Sequence[Floats], stages: Sequence[int] = (), *, icl: bool = False,
    most_exact: int = MOST_EXACT,
) -> Requests:  # fmt: skip
    """`edges`: of bins (seconds), ascending, a list for each stage that began; `stages`: the indices of the plan that
    are told apart. `icl`: also the gaps between chunks. Raises RecordingError, as `Recording.batches` does.
    """
    places = _Places(edges, stages)
    exact = recording.rows <= most_exact
    times: _Times = _Exact() if exact else _Counted()
    by_stage = np.zeros((len(ARMS), len(stages) + 1, 4), np.int64)
    by_bin = np.zeros((len(ARMS), places.bins + 1, 4), np.int64)
    kinds, sampler, tokens = Kinds(), Sampler(), False
    for piece in pieces(recording):
        slot, place = places.stage(piece.stage), places.bin(piece.at_ns)
        for counts, where in ((by_stage, slot), (by_bin, place)):
            counts += _counted(piece, where, counts.shape[1])
        times.add(TIMES, places.cell(piece.arm, slot, place), piece.times)
        kinds.add(piece)
        sampler.add(piece)
        tokens |= piece.tokens
    for gap in gaps(recording.chunks) if icl and recording.chunks is not None else ():
        times.add(("icl",), places.cell(gap.arm, places.stage(gap.stage), places.bin(gap.end_ns)), gap.ns[None, :])
    asked = by_stage.sum(axis=(1, 2))
    return Requests(
        rows=recording.rows,
        arms=tuple(arm for arm, n in zip(ARMS, asked.tolist(), strict=True) if n),
        has_tokens=tokens,
        exact=exact,
        edges=tuple(edges),
        stages=tuple(stages),
        by_stage=by_stage,
        by_bin=by_bin[:, : places.bins],
        cells={
            Cell(metric, *places.named(cell)): spread
            for metric in METRICS
            for cell, spread in sorted(times.spreads(metric).items())
        },
        points_of=sampler.points(),
        errors=kinds.rows(dict(zip(ARMS, asked.tolist(), strict=True)), recording.rows),
    )


def _counted(piece: Piece, where: Ints, places: int) -> Ints:
    # Arm -1 is counted in a row of its own, before the others.
    key = ((piece.arm + np.int64(1)) * places + where) * 4 + piece.what
    return np.bincount(key, minlength=(len(ARMS) + 1) * places * 4).reshape(-1, places, 4)[1:]


class _Places:
    """Which stage and which bin a request belongs to; the number after the last is that of none."""

    def __init__(self, edges: Sequence[Floats], stages: Sequence[int]) -> None:
        self._stages = np.asarray(stages, np.int64)
        self._order = np.argsort(self._stages, kind="stable")
        self.bins = sum(max(len(of) - 1, 0) for of in edges)
        self._edges = np.rint(np.concatenate([*edges, np.empty(0)]) * 1e9).astype(np.int64)
        # Of each edge the bin that begins there; none does at a stage's last, which still belongs to the bin before.
        self._begins = np.full(len(self._edges) + 1, self.bins)
        number = at = 0
        for of in edges:
            inside = max(len(of) - 1, 0)
            self._begins[1 + at : 1 + at + inside] = np.arange(number, number + inside)
            number, at = number + inside, at + len(of)

    def stage(self, index: Ints) -> Ints:
        if not len(self._stages):
            return np.zeros(len(index), np.int64)
        ordered = self._stages[self._order]
        place = np.minimum(np.searchsorted(ordered, index), len(ordered) - 1)
        return np.where(ordered[place] == index, self._order[place], len(ordered))

    def bin(self, at_ns: Ints) -> Ints:
        edge = np.searchsorted(self._edges, at_ns, side="right")
        found = self._begins[edge]
        last = (found == self.bins) & (edge > 0)
        last[last] = self._edges[edge[last] - 1] == at_ns[last]
        found[last] = self._begins[np.searchsorted(self._edges, at_ns[last], side="left")]
        return found

    def cell(self, arm: npt.NDArray[np.int8], slot: Ints, place: Ints) -> Ints:
        """One number for arm, stage and bin; negative where the arm is none of ours."""
        return (arm * np.int64(len(self._stages) + 1) + slot) * (self.bins + 1) + place

    def named(self, cell: int) -> tuple[str, int, int]:
        """Arm, stage and bin of a cell."""
        rest, place = divmod(cell, self.bins + 1)
        arm, slot = divmod(rest, len(self._stages) + 1)
        return (
            ARMS[arm],
            int(self._stages[slot]) if slot < len(self._stages) else -1,
            place if place < self.bins else -1,
        )


class _Times(Protocol):
    def add(self, metrics: Sequence[str], cell: Ints, ns: Floats) -> None:
        """`ns`: of shape (metrics, requests), NaN where there is none. Those whose cell is negative are left out."""

    def spreads(self, metric: str) -> Mapping[int, Spread]:
        """By cell. What was added for the metric is given away."""


class _Exact:
    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[Ints, Floats]]] = {metric: [] for metric in METRICS}

    def add(self, metrics: Sequence[str], cell: Ints, ns: Floats) -> None:
        for metric, values in zip(metrics, ns, strict=True):
            known = (cell >= 0) & ~np.isnan(values)
            self._seen[metric].append((cell[known], values[known]))

    def spreads(self, metric: str) -> Mapping[int, Spread]:
        seen = self._seen.pop(metric)
        cell = np.concatenate([part for part, _ in seen] or [np.empty(0, np.int64)])
        seconds = np.concatenate([part for _, part in seen] or [np.empty(0)]) * 1e-9
        order = np.argsort(cell, kind="stable")
        cell, seconds = cell[order], seconds[order]
        first = np.flatnonzero(np.append(True, cell[1:] != cell[:-1])) if len(cell) else np.empty(0, np.int64)
        parts = np.split(seconds, first[1:]) if len(cell) else []
        return {int(cell[begin]): Spread.exact(part) for begin, part in zip(first, parts, strict=True)}


class _Counted:
    def __init__(self) -> None:
        self._counts: dict[str, dict[int, Ints]] = {metric: {} for metric in METRICS}

    def add(self, metrics: Sequence[str], cell: Ints, ns: Floats) -> None:
        codes = code_of(ns, np.isnan(ns))
        for one in np.flatnonzero(np.bincount(cell[cell >= 0])).tolist():
            mine = np.flatnonzero(cell == one)
            for metric, of in zip(metrics, codes, strict=True):
                if one not in self._counts[metric]:
                    self._counts[metric][one] = np.zeros(CODES, np.int64)  # what is never touched of it takes no room
                np.add.at(self._counts[metric][one], of[mine], 1)

    def spreads(self, metric: str) -> Mapping[int, Spread]:
        found = {}
        for cell, counts in self._counts.pop(metric).items():
            counts[UNKNOWN] = 0
            codes = np.flatnonzero(counts)
            if len(codes):
                found[cell] = Spread(SECONDS[codes], counts[codes])
        return found
