"""One step of many sequences, again and again: on a GPU replayed as a CUDA graph.

A step of a small model is hundreds of kernels of a few microseconds each, and to launch one from Python takes longer
than to run it. A graph launches all of them at once. It is recorded for 1, 2, 4, ... sequences; fewer repeat the first
one, which computes and keeps the same values twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.embedded.llama.cache import Cache
from harness.embedded.llama.transformer import Transformer

WARM_UPS = 2


class Steps:
    """Steps of the sequences in `cache`. Recording takes place here, and writes into position 0 of slot 0."""

    def __init__(self, transformer: Transformer, cache: Cache) -> None:
        self._transformer, self._cache = transformer, cache
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        if transformer.device != "cpu" and transformer.ops.capturable:
            pool = None
            for size in reversed(sizes(cache.slots)):  # the largest first: the others fit into its memory
                self._graphs[size] = self._recorded(size, pool)
                pool = self._graphs[size][0].pool()

    def run(self, tokens: Sequence[int], slots: Sequence[int]) -> Tensor:
        """Appends a token to each of the slots (no slot twice). Logits float32 (n, vocabulary), valid until the next
        call.
        """
        count = len(tokens)
        positions = [self._cache.lengths[slot] for slot in slots]
        size = next((size for size in sorted(self._graphs) if size >= count), 0)
        rows = [list(values) + [values[0]] * (max(size, count) - count) for values in (tokens, slots, positions)]
        if size:
            graph, given, logits = self._graphs[size]
            given.copy_(torch.tensor(rows))
            graph.replay()
        else:
            given = torch.tensor(rows, device=self._transformer.device)
            logits = self._transformer.step(given[0], given[1], given[2], self._cache)
        for slot in slots:
            self._cache.lengths[slot] += 1
        return logits[:count]

    def _recorded(self, size: int, pool: Any) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        """The graph, its tokens, slots and positions as int64 (3, size), and its logits."""
        given = torch.zeros(3, size, dtype=torch.int64, device=self._transformer.device)

        def step() -> Tensor:
            return self._transformer.step(given[0], given[1], given[2], self._cache)

        # what is done once (compiling, workspaces) may not be part of a graph, and needs a stream of its own
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            logits = step()
        return graph, given, logits


def sizes(most: int) -> list[int]:
    """1, 2, 4, ... up to `most`, which is one of them."""
    found = [1]
    while found[-1] < most:
        found.append(min(2 * found[-1], most))
    return found
