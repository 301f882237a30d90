"""`smollm2_batched`: SmolLM2 with a batch dimension, one answer a request, in memory that may be limited. Runs inside
Triton.

As an engine with contiguous caches it allocates the keys and values of a whole batch before it begins: its memory grows
with batch and context. A batch for which there is not enough fails as a whole, with NumPy's own error; the instance
lets go of everything and serves the next.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import resource
from pathlib import Path
from typing import Any

from harness.embedded.guard import end_with_parent
from harness.embedded.runtime import WEIGHTS_INSTALL, weights_file
from harness.embedded.smollm2.engine import Engine
from harness.embedded.smollm2.settings import settle_batched
from harness.embedded.smollm2.transformer import BLOCK
from harness.embedded.smollm2.wire import answer_batches

M_MMAP_THRESHOLD = -3
LARGE = 1 << 18
"""Bytes from which an array is a mapping of its own, given back when it is freed: what one request needed does not
count for the next. (By itself glibc learns from frees to keep up to 32 MiB.)
"""

REST = 48 << 20


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        end_with_parent()
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)
        folder = Path(args["model_repository"]) / args["model_version"]
        settings = settle_batched(json.loads((folder / "build.json").read_text())["build"])
        weights = weights_file()
        if weights is None:
            raise RuntimeError(f"the weights of SmolLM2-135M-Instruct are not installed: {WEIGHTS_INSTALL}")
        self._engine = Engine(weights, settings.weights, layers=settings.layers, kv=settings.kv)
        # A whole block of prefill: what the arithmetic keeps, and touches by and by, is there before the limit.
        self._engine.answers([" ".join(["warm"] * BLOCK)], [1])
        self._reserve = _at_rest(libc)
        if settings.memory:
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (settings.memory, hard))

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer_batches(requests, self._engine.answers)


def _at_rest(libc: ctypes.CDLL) -> mmap.mmap | None:
    """Makes every instance of a build begin alike; what is taken for that is not touched: address space, and no memory.

    Loading leaves 66 MB of holes in the heap, which glibc would fill first, whatever the threshold: they are taken. And
    what is allocated then differs by 10 MB from one load to the next: it is rounded up, in the mapping returned.
    """
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    libc.malloc_trim(0)
    top = libc.sbrk(0)
    while libc.sbrk(0) == top and libc.malloc(ctypes.c_size_t(LARGE - 4096)):
        pass
    held = int(Path("/proc/self/statm").read_text().split()[5]) * mmap.PAGESIZE
    more = -held % REST
    return mmap.mmap(-1, more, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) if more else None
