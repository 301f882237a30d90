"""Output quality as the page shows it: pairs of distributions over the same, forced tokens.

The reference P is what the baseline said when it generated. The floor is what it says of the same tokens a
second time; the candidate's divergence is read against that floor. KL(P || Q) in nats is over P's top k
tokens and one bucket for the rest, as the judge takes it (a test compares the two; this package does not
import the judge). It is a lower bound; a token that Q does not list counts with the most Q can give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

if TYPE_CHECKING:
    import pyarrow as pa

    from harness.recording import Recording

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_SMALLEST = 1e-9
# More than this many scored answers add nothing to a curve that is a few hundred pixels wide.
MOST_PAIRS = 20_000


@dataclass(frozen=True)
class Example:
    """One prompt's two answers, and how far the candidate was from the baseline on the baseline's tokens."""

    stage: int
    pair_id: int
    baseline: str
    candidate: str
    kl: float
    agreement: float  # share of tokens with the same first choice


@dataclass(frozen=True)
class Quality:
    """Per scored answer, mean over its tokens; both arrays of an arm have equal length."""

    kl: Mapping[str, Floats]  # arm to nats per token; "baseline" is the floor
    agreement: Mapping[str, Floats]  # arm to share of tokens with the same first choice
    examples: tuple[Example, ...]
    pairs: int  # generated answers that both arms gave
    differing: int  # of these, with different text or tokens

    def __bool__(self) -> bool:
        return bool(self.pairs) or any(len(values) for values in self.kl.values())


def quality(recording: Recording, examples: int = 3) -> Quality:
    """From the outputs of a recording; an empty Quality where none were compared."""
    table = recording.outputs
    kl: dict[str, list[float]] = {"baseline": [], "candidate": []}
    agreement: dict[str, list[float]] = {"baseline": [], "candidate": []}
    if table is None or not table.num_rows:
        return Quality(_arrays(kl), _arrays(agreement), (), 0, 0)
    rows = _Rows(table)
    generated = {arm: rows.index("generated", arm) for arm in kl}
    reference = generated["baseline"]
    by_pair: dict[int, tuple[float, float]] = {}
    for arm in kl:
        scored = rows.all("scored", arm)
        for row in scored[:: max(1, -(-len(scored) // MOST_PAIRS))]:
            base = reference.get(int(rows.pair_id[row]))
            if base is None:
                continue
            divergence, same = divergences(*rows.distribution(base), *rows.distribution(row))
            if not len(divergence):
                continue
            kl[arm].append(float(divergence.mean()))
            agreement[arm].append(float(same.mean()))
            if arm == "candidate":
                by_pair.setdefault(int(rows.pair_id[row]), (kl[arm][-1], agreement[arm][-1]))
    both = [pair for pair in reference if pair in generated["candidate"]]
    differing = [pair for pair in both if rows.answer(reference[pair]) != rows.answer(generated["candidate"][pair])]
    worst = sorted((pair for pair in differing if pair in by_pair), key=lambda pair: (-by_pair[pair][0], pair))
    shown = worst[:examples] or differing[:examples]
    return Quality(
        _arrays(kl),
        _arrays(agreement),
        tuple(
            Example(
                int(rows.stage[reference[pair]]),
                pair,
                rows.text(reference[pair]),
                rows.text(generated["candidate"][pair]),
                *by_pair.get(pair, (float("nan"), float("nan"))),
            )
            for pair in shown
        ),
        len(both),
        len(differing),
    )


def divergences(p_ids: Ints, p_logs: Floats, q_ids: Ints, q_logs: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """KL(P || Q) in nats and whether the first choice is the same, per token.

    Ids and natural log-probabilities have shape (tokens, k), most likely first; the shorter one counts.
    """
    tokens = min(len(p_ids), len(q_ids))
    if not tokens or not p_ids.shape[1] or not q_ids.shape[1]:
        return np.empty(0), np.empty(0, bool)
    p_ids, p_logs, q_ids, q_logs = p_ids[:tokens], p_logs[:tokens], q_ids[:tokens], q_logs[:tokens]
    p, q_known = np.exp(p_logs), np.exp(q_logs)
    match = p_ids[:, :, None] == q_ids[:, None, :]
    found = match.any(axis=2)
    q_tail = np.maximum(1 - q_known.sum(axis=1), _SMALLEST)
    guess = np.minimum(q_known.min(axis=1), q_tail / ((~found).sum(axis=1) + 1))
    q = np.where(found, (match * q_known[:, None, :]).sum(axis=2), guess[:, None])
    p_rest = np.maximum(1 - p.sum(axis=1), 0.0)
    q_rest = np.maximum(1 - q.sum(axis=1), _SMALLEST)
    logs = np.log(np.maximum(p, _SMALLEST)) - np.log(np.maximum(q, _SMALLEST))
    tail = np.where(p_rest > _SMALLEST, p_rest * np.log(np.maximum(p_rest, _SMALLEST) / q_rest), 0.0)
    total = np.where(p > 0, p * logs, 0.0).sum(axis=1) + tail
    same = np.take_along_axis(p_ids, p_logs.argmax(axis=1)[:, None], 1) == np.take_along_axis(
        q_ids, q_logs.argmax(axis=1)[:, None], 1
    )
    return np.maximum(total, 0.0), same[:, 0]


class _Rows:
    """The outputs table by row number, without making Python objects of what is not looked at."""

    def __init__(self, table: pa.Table) -> None:
        table = table.combine_chunks()
        self._table = table
        self.pair_id: Ints = table["pair_id"].to_numpy()
        self.stage = table["stage"].to_numpy()
        self._k = table["k"].to_numpy()

    def all(self, kind: str, arm: str) -> Ints:
        wanted = pc.and_(pc.equal(self._table["kind"], kind), pc.equal(self._table["arm"], arm))
        return np.flatnonzero(wanted.to_numpy(zero_copy_only=False))

    def index(self, kind: str, arm: str) -> dict[int, int]:
        return {int(self.pair_id[row]): int(row) for row in self.all(kind, arm)}

    def distribution(self, row: int) -> tuple[Ints, Floats]:
        k = max(0, int(self._k[row]))
        ids, logs = self._list("topk_ids", row), self._list("topk_logprobs", row)
        whole = min(len(ids), len(logs)) // k * k if k else 0
        return ids[:whole].reshape(-1, max(1, k)), logs[:whole].astype(np.float64).reshape(-1, max(1, k))

    def text(self, row: int) -> str:
        return str(self._table["text"][int(row)].as_py() or "")

    def answer(self, row: int) -> tuple[Any, ...]:
        digest = self._table["digest"][int(row)].as_py()
        return (digest,) if digest else (self.text(row), *self._list("token_ids", row).tolist())

    def _list(self, name: str, row: int) -> npt.NDArray[Any]:
        values = self._table[name][int(row)].values
        return np.asarray(values.to_numpy(zero_copy_only=False)) if values is not None else np.empty(0)


def _arrays(values: Mapping[str, list[float]]) -> dict[str, Floats]:
    return {arm: np.asarray(found, np.float64) for arm, found in values.items()}
