"""icl: the gaps between the chunks of streamed answers, as rows like those of requests."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.judge.columns import ARMS, OK, Columns, Ints

ICL = "icl."
"""How the names of its statistics begin."""


def gaps(chunks: pa.Table | None) -> Columns | None:
    """A row for each gap between two chunks of one request: `first_ns` and `done_ns` are when it began and ended, and
    it is due when it ended, as in sketches. None without chunks (columns of harness.recording.schema.CHUNKS).
    """
    if chunks is None:
        return None
    arm = np.asarray(pc.index_in(chunks["arm"], value_set=pa.array(ARMS)).fill_null(-1).to_numpy(), np.int64)
    pair, t_ns = (np.asarray(chunks[name].to_numpy(), np.int64) for name in ("pair_id", "t_ns"))
    order = np.lexsort((t_ns, arm, pair))
    arm, pair, t_ns = arm[order], pair[order], t_ns[order]
    later = 1 + np.flatnonzero((pair[1:] == pair[:-1]) & (arm[1:] == arm[:-1]))
    return _rows(arm[later], pair[later], t_ns[later - 1], t_ns[later])


def _rows(arm: Ints, pair: Ints, begin_ns: Ints, end_ns: Ints) -> Columns:
    n = len(arm)
    none = np.full(n, -1, np.int64)
    return Columns(
        arm=arm.astype(np.int8),
        stage=(pair >> 32).astype(np.int32),
        pair_id=none,
        score=np.zeros(n, np.bool_),
        due_ns=end_ns,
        due_known=np.ones(n, np.bool_),
        sent_ns=begin_ns,
        first_ns=begin_ns,
        done_ns=end_ns,
        status=np.full(n, OK, np.int8),
        error=np.zeros(n, np.int32),
        version=np.zeros(n, np.int32),
        osl=none.astype(np.int32),
        worker=none.astype(np.int16),
        error_names=("",),
        version_names=("",),
    )
