"""The requests of an A/B test as columns: whose each was, where it should have gone, and who answered it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from harness.judge.columns import BASELINE, CANDIDATE, OK, Bools, Columns, Ints

Facts = Mapping[str, Any]
ARMS = {"baseline": BASELINE, "candidate": CANDIDATE}
A, B, NOBODY, SEVERAL, OTHER = BASELINE, CANDIDATE, -1, -2, -3


@dataclass(frozen=True, eq=False)
class Rows:
    """One row a request. `unit`: an index into `units`. `hashed`: the hash assigned its unit; else its client's header
    did. `answered`: the arm that its answer names, NOBODY where it names none, OTHER where that is neither A's version
    nor B's, SEVERAL where it contradicts itself. `counted`: it was due in the time that is measured.
    """

    columns: Columns
    units: tuple[str, ...]
    unit: Ints
    hashed: Bools
    answered: Ints
    counted: Bools

    @classmethod
    def of(cls, samples: pa.Table, observations: Facts) -> Rows:
        """Of samples with the columns of recording.schema.SAMPLES; those without a unit are left out."""
        samples = samples.filter(pa.compute.not_equal(samples["unit"], ""))
        columns = Columns.of(samples)
        unit, units = _coded(samples["unit"])
        how, words = _coded(samples["assignment"])
        window = next(iter(observations.get("windows") or []), None)
        counted = np.zeros(len(columns), np.bool_)
        if window is not None:
            begin = round(window["begin_s"] * 1e9)
            counted = (columns.due_ns >= begin) & (columns.due_ns < begin + round(window["seconds"] * 1e9))
        return cls(
            columns=columns,
            units=units,
            unit=unit,
            hashed=np.array([word == "hash" for word in words] or [False])[how],
            answered=_answered(samples, columns, observations["told"]),
            counted=counted,
        )

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def arm(self) -> Ints:
        """The one that the request's unit belongs to, A or B."""
        return self.columns.arm.astype(np.int64)


def _answered(samples: pa.Table, columns: Columns, told: Facts) -> Ints:
    """By the names that the ingress gives the arms, by the versions, or by the address alone, as `told` has them.

    Whatever tells has to tell the same: an ingress that says A and has version 2 answer is no A.
    """
    if told["address"]:
        return np.where(columns.status == OK, columns.arm, NOBODY).astype(np.int64)
    found = np.full(len(columns), NOBODY, np.int64)
    # A server that the ingress does not name is an address; a version that is neither arm's is somebody else's.
    for column, names, unknown in (("server", told["names"], NOBODY), ("version", told["versions"], OTHER)):
        codes, texts = _coded(samples[column])
        arms = [ARMS.get(names.get(text, ""), unknown if text else NOBODY) for text in texts]
        one = np.array(arms or [NOBODY])[codes] if names else np.full(len(columns), NOBODY)
        clash = (found != NOBODY) & (one != NOBODY) & (found != one)
        found = np.where(clash, SEVERAL, np.where(found == NOBODY, one, found))
    return found


def _coded(column: pa.ChunkedArray) -> tuple[Ints, tuple[str, ...]]:
    """Indices of a text column, and the texts in sorted order: independent of the order of arrival."""
    whole = column.combine_chunks()
    encoded = (whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole).dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    order = sorted(range(len(texts)), key=texts.__getitem__)
    rank = np.empty(max(len(texts), 1), np.int64)
    rank[order] = np.arange(len(texts))
    return rank[encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)], tuple(texts[i] for i in order)
