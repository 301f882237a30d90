"""One step of many rows, again and again: on a GPU replayed as a CUDA graph.

A step of a small model is hundreds of kernels of a few microseconds each, and to launch one from Python takes longer
than to run it. A graph launches all of them at once. It is recorded for 1, 2, 4, ... rows; fewer repeat the first one,
which computes and keeps the same values twice. A row is a sequence that goes on; or a token of one prompt, whose rows
are of one slot: keys and values of all are kept before any of them looks back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.embedded.llama.cache import Cache
from harness.embedded.llama.transformer import Stop, Transformer

WARM_UPS = 2
PROMPTS = (64, 128, 256)
"""Rows of a prompt. Longer ones keep the GPU at work without a graph."""


class Replay(Protocol):
    """Tokens, slots and positions, int64 (3, size) on the host -> logits (size, vocabulary), valid until the next."""

    def __call__(self, rows: Tensor) -> Tensor: ...


class Steps:
    """Steps and prompts of the sequences in `cache`. Recording takes place here, and writes into its first slot.

    `record` makes the Replay of a size; by default graphs on a GPU, and none on a CPU.
    """

    def __init__(self, transformer: Transformer, cache: Cache, record: Callable[[int], Replay] | None = None) -> None:
        self._transformer, self._cache = transformer, cache
        if record is None and transformer.device != "cpu" and transformer.ops.capturable:
            record = Graphs(transformer, cache)
        self._replays: dict[int, Replay] = {}
        if record is not None:
            prompts = [size for size in PROMPTS if cache.slots < size <= cache.capacity]
            try:
                # the largest first: the others fit into its memory
                self._replays = {size: record(size) for size in reversed([*sizes(cache.slots), *prompts])}
            except RuntimeError as error:
                print(f"llama: steps are not recorded as graphs: {error}", file=sys.stderr, flush=True)

    def run(self, tokens: Sequence[int], slots: Sequence[int]) -> Tensor:
        """Appends a token to each of the slots (no slot twice). Logits float32 (n, vocabulary), valid until the next
        call.
        """
        logits = self._rows(tokens, slots, [self._cache.lengths[slot] for slot in slots])
        for slot in slots:
            self._cache.lengths[slot] += 1
        return logits

    def prefill(self, ids: Sequence[int], slot: int, last: int = 1, stop: Stop = lambda: False) -> Tensor:
        """As Transformer.prefill; a short prompt as the rows of one step."""
        if len(ids) > max(self._replays, default=0):
            return self._transformer.prefill(ids, self._cache, slot, last, stop)
        start = self._cache.lengths[slot]
        logits = self._rows(ids, [slot] * len(ids), range(start, start + len(ids)))
        self._cache.lengths[slot] += len(ids)
        return logits[-last:]

    def _rows(self, *given: Sequence[int]) -> Tensor:
        """`given`: tokens, slots, positions."""
        count = len(given[0])
        size = min((size for size in self._replays if size >= count), default=0)
        rows = torch.tensor([[*values, *[values[0]] * (max(size, count) - count)] for values in given])
        if size:
            return self._replays[size](rows)[:count]
        tokens, slots, positions = rows.to(self._transformer.device)
        return self._transformer.step(tokens, slots, positions, self._cache)


class Graphs:
    """Records steps as CUDA graphs that share their memory: only one runs at a time."""

    def __init__(self, transformer: Transformer, cache: Cache) -> None:
        self._transformer, self._cache = transformer, cache
        self._aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool: Any = None

    def __call__(self, size: int) -> Replay:
        given = torch.zeros(3, size, dtype=torch.int64, device=self._transformer.device)

        def step() -> Tensor:
            return self._transformer.step(given[0], given[1], given[2], self._cache)

        # what is done once (compiling, workspaces) may not be part of a graph, and needs a stream of its own
        self._aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._aside):
            for _ in range(WARM_UPS):
                step()
        torch.cuda.current_stream().wait_stream(self._aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = step()
        self._pool = graph.pool()

        def replay(rows: Tensor) -> Tensor:
            given.copy_(rows)
            graph.replay()
            return logits

        return replay


def sizes(most: int) -> list[int]:
    """1, 2, 4, ... up to `most`, which is one of them."""
    found = [1]
    while found[-1] < most:
        found.append(min(2 * found[-1], most))
    return found
