"""Sketches: how often a time fell into which bin, by stage, block, arm and metric.

Guarantee: every quantile of a sketch lies within 1 % of the exact one (numpy's linear interpolation between order
statistics), for any data from 1 ns to 10^5 s; sketches of parts, added up, are the sketch of the whole.

Bin i holds [1.01^i, 1.01^(i+1)) seconds (tokens for osl). An order statistic is put where its rank puts it inside its
bin, so it is off by less than the bin's width, and less still where values lie dense; between two order statistics
within 1 % any interpolation is within 1 %. Values below 1 ns count as 1 ns, above 10^5 as 10^5. (DDSketch, Masson, Rim
and Lee, VLDB 2019, has the same bins at half the width for the same error: its quantile is a bin's middle, which moves
in steps of 2 %. Interpolated, smaller steps of both arms can be told apart, which paired blocks live on.)

Metrics: response_time, request_latency, ttft, tpot as in `harness.types`; send_lag (sent - due); osl; icl, the gaps
between the chunks of a request. Only answered requests have them, and time-outs, with what they had waited; requests
that score have none. Rows of SUMS that only count, by arm: `status.<status>` of planned requests and `score.<status>`
of those that score, `error.<class>` and `version.<version>` of both, and `lost.<metric>`: pairs that both arms
answered, in which this arm has the metric and the other has not.

A block is BLOCK_NS of due time, counted from the beginning of the stage; a gap between chunks belongs to the block in
which it ended. In a paired stage `paired` tells the values whose partner has one, too (only those are compared, as
`judge` does) from the others, and an objective takes both. In other stages all is unpaired.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from harness.recording.schema import BIN_RATIO

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LEAST, MOST = 1e-9, 1e5
_LOG_RATIO = math.log(BIN_RATIO)
FIRST_BIN, LAST_BIN = math.floor(math.log(LEAST) / _LOG_RATIO), math.floor(math.log(MOST) / _LOG_RATIO)
BINS = LAST_BIN - FIRST_BIN + 1
_KEYS = ["stage", "block", "arm", "metric", "paired"]


def log_of(values: Floats) -> Floats:
    """ln, of a value in the range of the bins."""
    return np.asarray(np.log(np.clip(values, LEAST, MOST)), np.float64)


def bins_of(logs: Floats) -> Ints:
    """The bin of each value, from its `log_of`."""
    bins: Ints = np.floor(logs * (1 / _LOG_RATIO)).astype(np.int64)
    return bins


def quantile(bins: npt.ArrayLike, counts: npt.ArrayLike, q: float | npt.ArrayLike) -> Any:
    """The quantiles `q` (in [0, 1]; a number or an array) of what was counted; NaN if nothing was.

    `bins` in any order; a bin may come several times.
    """
    place, where = np.unique(np.asarray(bins, np.int64), return_inverse=True)
    number = np.bincount(where, weights=np.asarray(counts, np.float64)).astype(np.int64)
    place, number = place[number > 0], number[number > 0]
    wanted = np.asarray(q, np.float64)
    if not len(place):
        return np.full(wanted.shape, np.nan)[()]
    ends = np.cumsum(number)
    rank = wanted * (ends[-1] - 1)
    low = np.floor(rank).astype(np.int64)
    first, second = (_order(place, number, ends, np.minimum(k, ends[-1] - 1)) for k in (low, low + 1))
    return (first + (second - first) * (rank - low))[()]


def _order(place: Ints, number: Ints, ends: Ints, rank: Ints) -> Floats:
    """The order statistic of each rank, spread evenly (on the scale of ln) over its bin."""
    at = np.searchsorted(ends, rank, side="right")
    inside = (rank - (ends[at] - number[at]) + 0.5) / number[at]
    return np.asarray(np.exp((place[at] + inside) * _LOG_RATIO), np.float64)


def histogram(sketches: pa.Table, metric: str, **where: Any) -> tuple[Ints, Ints]:
    """Bins and counts of `metric`, over all rows in which the columns named in `where` have those values.

    `histogram(sketches, "ttft", stage=0, arm="baseline", block=3)`, for `quantile`.
    """
    rows = sketches
    for column, value in {"metric": metric, **where}.items():
        rows = rows.filter(pc.equal(rows[column], value))
    return rows["bin"].to_numpy().astype(np.int64), rows["count"].to_numpy()


def merge(*tables: pa.Table) -> pa.Table:
    """Tables of SKETCHES, or of SUMS, as one with one row a key, sorted by it.

    Sums of floats are added in the order of the rows: the same tables in the same order give the same bytes.
    """
    together = pa.concat_tables(tables)
    keys = [*_KEYS, "bin"] if "bin" in together.column_names else _KEYS
    values = [name for name in together.column_names if name not in keys]
    # One thread: several would add in an order of their own.
    grouped = pa.TableGroupBy(together, keys, use_threads=False).aggregate([(name, "sum") for name in values])
    names = [*keys, *(f"{name}_sum" for name in values)]
    merged = grouped.select(names).rename_columns([*keys, *values])
    return (
        merged.sort_by([(key, "ascending") for key in keys])
        .cast(together.schema)
        .replace_schema_metadata(together.schema.metadata)
    )
