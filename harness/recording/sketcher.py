"""Samples in, sketches out, while the run goes on, in constant memory (see `recording.sketches` for what is in them).

Counts of the latest blocks lie in one array and go out block by block. What comes late (a request that took a minute)
makes further rows of its block, which add up with the earlier ones: when rows go out is a matter of their number only,
and nothing is lost by being late. A request of a paired stage waits for its partner's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from harness.recording.blocks import METRICS, Blocks, Rows, keys_of, lanes_of
from harness.recording.requests import (
    ARMS,
    COLUMNS,
    OK,
    SAMPLE_METRICS,
    STABLE,
    STATUSES,
    UNKNOWN,
    Ints,
    Requests,
    codes,
    indices,
)
from harness.recording.schema import BLOCK_NS
from harness.recording.sketches import log_of
from harness.types import StagePlan

# Requests that wait for their partner's: the engine records both at once, and `sketch` sorts by pair.
WAITING = 1 << 12
# Samples that are taken in together: fewer cost more each, more stop the caller for longer.
TOGETHER = 1024

_METRIC = np.arange(len(SAMPLE_METRICS))[:, None]
_OUTCOMES = [f"{kind}.{status}" for kind in ("status", "score") for status in STATUSES]


class _Stage(NamedTuple):
    begin_ns: int = 0
    paired: bool = False


class Sketcher:
    """Not thread-safe. Costs about 0.4 us a sample."""

    def __init__(self) -> None:
        self._stages: dict[int, _Stage] = {}
        self._blocks = Blocks()
        self._held: list[pa.Table] = []
        self._waiting = Requests.none()
        none = np.zeros(0, np.int64)
        self._last_chunk = none, none, none

    def stage(self, plan: StagePlan, begin_ns: int) -> None:
        """Before its first sample. Blocks of a stage that was not announced count from the run's start, and none of its
        requests has a partner.
        """
        self._stages[plan.index] = _Stage(begin_ns, plan.mode == "paired")

    def add(self, samples: pa.RecordBatch | pa.Table) -> bool:
        """Rows with the columns of SAMPLES, in any order. True if that was work; otherwise they are only held."""
        if isinstance(samples, pa.RecordBatch):
            samples = pa.Table.from_batches([samples])
        self._held.append(samples.select(COLUMNS))
        if self._held_rows >= TOGETHER or self._held_ns >= BLOCK_NS:
            self._take_in()
            return True
        return False

    def add_chunks(self, chunks: pa.RecordBatch | pa.Table) -> None:
        """Rows with the columns of CHUNKS, those of one request together: the gaps between them are its icl."""
        pair_id = np.concatenate([self._last_chunk[0], np.asarray(chunks["pair_id"], np.int64)])
        arm = np.concatenate([self._last_chunk[1], indices(chunks["arm"], ARMS)])
        t_ns = np.concatenate([self._last_chunk[2], np.asarray(chunks["t_ns"], np.int64)])
        self._last_chunk = pair_id[-1:], arm[-1:], t_ns[-1:]
        later = 1 + np.flatnonzero((pair_id[1:] == pair_id[:-1]) & (arm[1:] == arm[:-1]))
        values = np.maximum(t_ns[later] - t_ns[later - 1], 0)[None, :] * 1e-9
        lanes = lanes_of(arm[later], METRICS.index("icl"), 0)[None, :]
        keys = self._keys(pair_id[later] >> 32, t_ns[later])
        self._blocks.add(keys, lanes, values, log_of(values), np.zeros_like(values))

    def closed(self) -> Rows | None:
        """The rows of blocks that have closed since the last call; None if none has."""
        return self._blocks.closed()

    def rest(self) -> Rows | None:
        """The rows of everything that is left; afterwards there is nothing left."""
        self._take_in()
        alone, self._waiting = self._waiting, Requests.none()
        self._add(Requests.none(), alone)
        return self._blocks.closed(all_of_them=True)

    @property
    def bound(self) -> tuple[int, int, int]:
        """What is kept: samples not yet taken in, requests waiting for a partner, open blocks."""
        return self._held_rows, len(self._waiting), self._blocks.open

    @property
    def _held_rows(self) -> int:
        return sum(table.num_rows for table in self._held)

    @property
    def _held_ns(self) -> int:
        """From the oldest held sample to the newest, roughly."""
        first, last = self._held[0]["done_ns"], self._held[-1]["done_ns"]
        return int(last[-1].as_py() - first[0].as_py()) if len(first) and len(last) else 0

    def _take_in(self) -> None:
        if not self._held:
            return
        table = pa.concat_tables(self._held)
        self._held.clear()
        requests = Requests.of(table)
        requests.key[:] = self._keys(requests.stage, requests.due_ns)
        assignment, words = codes(table["assignment"])
        score = assignment == (words.index("score") if "score" in words else -1)
        self._blocks.label(requests.key, requests.arm, requests.status + len(STATUSES) * score, _OUTCOMES)
        for column in ("error", "version"):
            which, texts = codes(table[column])
            if any(texts):
                labels = [f"{column}.{text}" if text else "" for text in texts]
                self._blocks.label(requests.key, requests.arm, which, labels)
        planned = requests.take(~score) if score.any() else requests
        self._add(*self._matched(planned))

    def _keys(self, stage: Ints, t_ns: Ints) -> Ints:
        keys = np.zeros(len(stage), np.int64)
        for index in np.unique(stage).tolist():
            here = stage == index
            keys[here] = keys_of(index, self._stages.get(index, _Stage()).begin_ns, t_ns[here])
        return keys

    def _matched(self, requests: Requests) -> tuple[Requests, Requests]:
        """Pairs (all first halves, then all second halves in the same order), and requests that have no partner."""
        asks = np.zeros(len(requests), np.bool_)
        for index in np.unique(requests.stage).tolist():
            if self._stages.get(index, _Stage()).paired:
                asks |= requests.stage == index
        asks &= (requests.arm != STABLE) & (requests.arm != UNKNOWN) & (requests.pair_id >= 0)
        alone, asking = requests.take(~asks), self._waiting + requests.take(asks)
        order = np.argsort(asking.pair_id * len(ARMS) + asking.arm, kind="stable")
        pair, arm = asking.pair_id[order], asking.arm[order]
        # Neighbours of one pair and two arms; a request that came twice stays behind.
        whole = np.flatnonzero((pair[1:] == pair[:-1]) & (arm[1:] != arm[:-1]))
        first, second = order[whole], order[whole + 1]
        left = np.ones(len(asking), np.bool_)
        left[first] = left[second] = False
        behind = np.flatnonzero(left)
        given_up, kept = behind[: max(len(behind) - WAITING, 0)], behind[max(len(behind) - WAITING, 0) :]
        self._waiting = asking.take(kept)
        pairs = asking.take(np.concatenate([first, second]))
        half = len(whole)
        pairs.key[:] = np.tile(np.minimum(pairs.key[:half], pairs.key[half:]), 2)
        return pairs, alone + asking.take(given_up)

    def _add(self, pairs: Requests, alone: Requests) -> None:
        every = pairs + alone
        if not len(every):
            return
        half, both = len(pairs) // 2, len(pairs)
        values = every.values()
        logs = log_of(values)
        cross, paired = np.zeros_like(values), np.zeros(values.shape, np.int64)
        known = ~np.isnan(values[:, :both])
        paired[:, :both] = np.tile(known[:, :half] & known[:, half:], 2)
        product = logs[:, :half] * logs[:, half:both]
        cross[:, :both] = np.where(paired[:, :both], np.tile(product, 2), 0.0)
        self._blocks.add(every.key, lanes_of(every.arm, _METRIC, paired), values, logs, cross)
        # Both arms answered, and only one of them has this metric.
        fine = np.tile((pairs.status[:half] == OK) & (pairs.status[half:] == OK), 2)
        for metric, lost in enumerate(known & ~paired[:, :both].astype(np.bool_) & fine):
            if lost.any():
                zero = np.zeros(int(lost.sum()), np.int64)
                self._blocks.label(pairs.key[lost], pairs.arm[lost], zero, [f"lost.{SAMPLE_METRICS[metric]}"])
