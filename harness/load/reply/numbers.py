"""What is kept of an answer in tensors beside its digest: shapes, how many numbers are none, a short vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.load.reply.reply import Reply
from harness.tensors import floats

LONGEST_VECTOR = 8192
LONGEST_SHAPE = 512


class Numbers:
    """Fills `shape`, `bad` and, with `vectors`, `vector` of a Reply, tensor by tensor.

    The vector is the first output of 2 to LONGEST_VECTOR floats.
    """

    def __init__(self, reply: Reply, *, vectors: bool) -> None:
        self._reply, self._vectors = reply, vectors
        self._shapes: list[str] = []

    def tensor(self, name: str, datatype: str, shape: Sequence[int], raw: bytes) -> None:
        self._shapes.append(f"{name} {datatype} {list(shape)}")
        values = floats(datatype, raw)
        if values is not None:
            self.values(values)

    def flat(self, name: str, values: object) -> None:
        """An output of the generate extension: a list or one value, whose shape is not told."""
        every = values if isinstance(values, list) else [values]
        self._shapes.append(f"{name} [{len(every)}]")
        if every and all(isinstance(value, float) for value in every):
            self.values(np.asarray(every, np.float32))

    def values(self, values: npt.NDArray[np.floating[Any]]) -> None:
        reply = self._reply
        reply.bad += int(values.size - np.isfinite(values).sum())
        if self._vectors and not len(reply.vector) and 2 <= values.size <= LONGEST_VECTOR:
            reply.vector = values.astype(np.float32)

    def end(self) -> None:
        self._reply.shape = "; ".join(self._shapes)[:LONGEST_SHAPE]
