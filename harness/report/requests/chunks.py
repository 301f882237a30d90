"""icl: the gaps between the chunks of streamed answers, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from harness.report.requests.reading import places_of
from harness.report.requests.spread import Floats, Ints

_PIECE = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """A gap between two chunks of one request, by when it ended."""

    arm: npt.NDArray[np.int8]
    stage: Ints
    end_ns: Ints
    ns: Floats


def gaps(chunks: pa.Table) -> Iterator[Gaps]:
    """Of rows with the columns of CHUNKS, those of one request together, as they are recorded."""
    last: tuple[Ints, Ints, npt.NDArray[np.int8]] = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8))
    for batch in chunks.to_batches(max_chunksize=_PIECE):
        new = batch.column("pair_id").to_numpy(), batch.column("t_ns").to_numpy(), places_of(batch)
        pair, t_ns, arm = (np.concatenate([old, more]) for old, more in zip(last, new, strict=True))
        last = pair[-1:], t_ns[-1:], arm[-1:]
        later = 1 + np.flatnonzero((pair[1:] == pair[:-1]) & (arm[1:] == arm[:-1]))
        ns = np.maximum(t_ns[later] - t_ns[later - 1], 0).astype(np.float64)
        yield Gaps(arm[later], pair[later] >> 32, t_ns[later], ns)
