"""What requests answered, by stage, pair, arm and kind."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from harness.judge.columns import ARMS, OK, Columns, Floats

Key = tuple[int, int, str, str]  # stage, pair_id, arm, kind
_PLAIN = (
    *("stage", "pair_id", "arm", "kind", "text", "digest", "k", "prompt", "finish_reason", "logprob", "logprob_tokens"),
    *("tool_calls", "shape", "bad"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One output. `topk_ids` and `logprobs` have shape (tokens, k); None where there are none, or they do not
    fit.

    `broken_numbers`: log-probabilities are there, and some are NaN or infinite. `prompt`: the number of what was asked,
    -1 unknown. `logprob`: the mean log-probability a token that the engine gave this answer, None where it gave none.
    `bad`: numbers in tensors that are NaN or infinite. `vector`: those of an answer that is one, None if it is not.
    """

    stage: int
    pair_id: int
    arm: str
    kind: str
    text: str
    digest: str
    token_ids: tuple[int, ...]
    topk_ids: npt.NDArray[np.int32] | None
    logprobs: Floats | None
    broken_numbers: bool = False
    prompt: int = -1
    finish_reason: str = ""
    logprob: float | None = None
    tool_calls: str = ""
    shape: str = ""
    bad: int = 0
    vector: npt.NDArray[np.float32] | None = None

    @property
    def empty(self) -> bool:
        return not (self.token_ids or self.text.strip() or self.digest or self.tool_calls)

    @property
    def key(self) -> Key:
        return (self.stage, self.pair_id, self.arm, self.kind)

    @property
    def content(self) -> tuple[object, ...]:
        """What two answers are compared by: tokens where there are some, else the digest or the text."""
        return self.token_ids or (self.digest or self.text, self.tool_calls)


def answers(table: pa.Table | None) -> tuple[Answer, ...]:
    """The rows of an outputs table, in the file's order."""
    if table is None or table.num_rows == 0:
        return ()
    ids, id_ends = _lists(table["topk_ids"], np.int32)
    logprobs, logprob_ends = _lists(table["topk_logprobs"], np.float64)
    tokens, token_ends = _lists(table["token_ids"], np.int32)
    vectors, vector_ends = _lists(table["vector"], np.float32)
    plain = {name: table[name].to_pylist() for name in _PLAIN}
    rows = []
    for i in range(table.num_rows):
        count = int(token_ends[i + 1] - token_ends[i])
        k = plain["k"][i] or 0
        row_ids = ids[id_ends[i] : id_ends[i + 1]]
        row_logprobs = logprobs[logprob_ends[i] : logprob_ends[i + 1]]
        fits = k > 0 and count > 0 and len(row_ids) == count * k == len(row_logprobs)
        rows.append(
            Answer(
                stage=max(plain["stage"][i] or 0, 0),
                pair_id=plain["pair_id"][i],
                arm=plain["arm"][i],
                kind=plain["kind"][i],
                text=plain["text"][i] or "",
                digest=plain["digest"][i] or "",
                token_ids=tuple(tokens[token_ends[i] : token_ends[i + 1]].tolist()),
                topk_ids=row_ids.reshape(count, k) if fits else None,
                logprobs=row_logprobs.reshape(count, k) if fits else None,
                broken_numbers=not bool(np.isfinite(row_logprobs).all() and math.isfinite(plain["logprob"][i])),
                prompt=plain["prompt"][i],
                finish_reason=plain["finish_reason"][i],
                logprob=plain["logprob"][i] / plain["logprob_tokens"][i] if plain["logprob_tokens"][i] > 0 else None,
                tool_calls=plain["tool_calls"][i],
                shape=plain["shape"][i],
                bad=max(plain["bad"][i], 0),
                vector=vectors[vector_ends[i] : vector_ends[i + 1]] if vector_ends[i] < vector_ends[i + 1] else None,
            )
        )
    return tuple(rows)


def _lists(column: pa.ChunkedArray, kind: type[np.generic]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The values of a list column end to end, and where each row's begin (one longer than the rows)."""
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.chunk(0)
    lengths = np.asarray(lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    values = lists.flatten().fill_null(float("nan") if issubclass(kind, np.floating) else -1)
    return np.asarray(values.to_numpy(zero_copy_only=False)).astype(kind, copy=False), ends


def seen(rows: tuple[Answer, ...], samples: Columns) -> tuple[Answer, ...]:
    """The answers whose request is among `samples` and succeeded: an output has no time, its request has.

    Both name the same stage, arm and pair, but for scores in a split stage: those name the pair they are a
    reference for. They are matched by order: as many of a stage and arm are kept as score requests succeeded.
    """
    if not rows:
        return ()
    fine = np.flatnonzero((samples.status == OK) & np.isin(samples.stage, sorted({a.stage for a in rows})))
    scores = fine[samples.score[fine]]
    plain = fine[~samples.score[fine]]
    asked = np.array(sorted({a.pair_id for a in rows}), np.int64)
    plain = plain[np.isin(samples.pair_id[plain], asked)]
    known: set[Key] = set()
    spare: Counter[tuple[int, str]] = Counter()
    scored = {a.key for a in rows if a.kind == "scored"}
    for kind, found in (("generated", plain), ("scored", scores)):
        for stage, pair, arm in zip(*_columns(samples, found), strict=True):
            key = (stage, pair, ARMS[arm], kind)
            if kind == "generated" or key in scored:
                known.add(key)
            else:
                spare[stage, ARMS[arm]] += 1
    kept = []
    for answer in rows:
        if answer.key in known:
            kept.append(answer)
        elif answer.kind == "scored" and spare[answer.stage, answer.arm] > 0:
            spare[answer.stage, answer.arm] -= 1
            kept.append(answer)
    return tuple(kept)


def _columns(samples: Columns, rows: npt.NDArray[np.intp]) -> tuple[list[int], list[int], list[int]]:
    return samples.stage[rows].tolist(), samples.pair_id[rows].tolist(), samples.arm[rows].tolist()
