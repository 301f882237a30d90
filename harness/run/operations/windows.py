"""What a load was like in one span of time: counts and times by block, all that a verdict on it follows from.

A window is cut into at most 30 blocks of equal length, half a second at least. A request belongs to the block in which
it was due, what it got done (itself, its tokens) to the one in which it ended. Times are kept as counts in bins of 1 %
(`recording.sketches`), so a quantile of any set of blocks is known within 1 %.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from harness.recording.sketches import bins_of, log_of
from harness.run.operations.generator import generator, held

BLOCK_S = 0.5
MOST_BLOCKS = 30
TIMES = ("response_time", "ttft", "tpot", "send_lag")
_TIMED = ("ok", "timeout")
_QUIET = ("ok", "cancelled")


def window(
    samples: pa.Table, stage: int, begin_ns: int, seconds: float, *, open_loop: bool, readings: pa.Table | None = None
) -> dict[str, Any]:  # fmt: skip
    """Facts of the requests of `stage` that were due, or ended, in `seconds` from `begin_ns` on.

    `samples` has the columns of recording.schema.SAMPLES, `readings` those of READINGS. `errors` counts failures by
    class, `cancelled` what failed nobody and was not answered (this machine had no socket for it, say). Time-outs have
    the times that they had waited; other failures have none. `send_lag` (sent - due) of all that left, only in an open
    loop. `held`, `generator`: see there.
    """
    rows = samples.filter(pa.compute.equal(samples["stage"], stage))
    number = blocks_in(seconds)
    edges = begin_ns + np.round(np.arange(number + 1) * (seconds * 1e9 / number)).astype(np.int64)
    due, done, status = (rows[name].to_numpy() for name in ("due_ns", "done_ns", "status"))
    by_due, by_done = (np.searchsorted(edges, t, side="right") - 1 for t in (due, done))
    inside = (by_due >= 0) & (by_due < number)
    failed, cancelled = inside & ~np.isin(status, _QUIET), inside & (status == "cancelled")
    ended = (by_done >= 0) & (by_done < number) & (status == "ok")
    answered, timed = inside & np.isin(status, _TIMED), {"send_lag": inside & ~cancelled}
    values, osl = _times(rows, open_loop), np.maximum(rows["osl"].to_numpy(), 0)
    blocks = []
    for block in range(number):
        here = by_due == block
        finished = ended & (by_done == block)
        blocks.append(
            {
                "seconds": seconds / number,
                "due": int((inside & here).sum()),
                "failed": int((failed & here).sum()),
                "done": int(finished.sum()),
                "tokens": int(osl[finished].sum()),
                "times": {
                    name: found
                    for name, of in values.items()
                    if (found := _bins(of[here & timed.get(name, answered)]))
                },
            }
        )  # fmt: skip
    words = rows["error"].to_numpy()
    return {
        "stage": stage, "begin_s": begin_ns / 1e9, "seconds": seconds, "blocks": blocks,
        "errors": _classes(words, status, failed), "cancelled": _classes(words, status, cancelled),
        "held": held(due, done, begin_ns, seconds), "generator": generator(readings, begin_ns, seconds),
    }  # fmt: skip


def blocks_in(seconds: float) -> int:
    """How many a window of that length is cut into."""
    return max(1, min(MOST_BLOCKS, int(seconds / BLOCK_S)))


def _classes(errors: Any, status: Any, of: Any) -> dict[str, int]:
    return dict(Counter(str(error or word) for error, word in zip(errors[of], status[of], strict=True)))


def _times(rows: pa.Table, open_loop: bool) -> dict[str, Any]:
    """Seconds; NaN where there is none."""
    due, sent, first, done = (
        rows[name].to_numpy().astype(np.float64) / 1e9 for name in ("due_ns", "sent_ns", "first_ns", "done_ns")
    )
    osl = rows["osl"].to_numpy().astype(np.float64)
    known = (rows["first_ns"].to_numpy() >= 0) & (rows["sent_ns"].to_numpy() >= 0)
    tokens = known & (osl >= 1)
    found = {
        "response_time": done - due,
        "ttft": np.where(tokens, first - sent, math.nan),
        "tpot": np.where(tokens & (osl > 1), (done - first) / np.maximum(osl - 1, 1), math.nan),
    }
    if open_loop:
        found["send_lag"] = np.where(rows["sent_ns"].to_numpy() >= 0, sent - due, math.nan)
    return found


def _bins(seconds: Any) -> list[list[int]]:
    """Bins and counts, both ascending in the bin; [] where there is nothing."""
    known = seconds[~np.isnan(seconds)]
    if not len(known):
        return []
    bins, counts = np.unique(bins_of(log_of(known)), return_counts=True)
    return [bins.tolist(), counts.tolist()]
