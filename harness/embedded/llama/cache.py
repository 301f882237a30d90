"""Keys and values of sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.embedded.llama.shapes import Shape

KINDS = {"fp32": torch.float32, "fp16": torch.float16, "fp8": torch.float8_e4m3fn}


class Cache:
    """`slots` sequences of up to `capacity` tokens, all of it allocated here. `lengths[slot]`: tokens that are in it.

    Two tensors a layer, each (slots, kv_heads, capacity, head): an allocator has no one huge piece to find.
    """

    def __init__(self, shape: Shape, slots: int, capacity: int, kept: str, device: str) -> None:
        self.slots, self.capacity = slots, capacity
        size = (slots, shape.kv_heads, capacity, shape.head)
        self.layers: list[tuple[Tensor, Tensor]] = [
            (
                torch.empty(size, dtype=KINDS[kept], device=device),
                torch.empty(size, dtype=KINDS[kept], device=device),
            )
            for _ in range(shape.layers)
        ]
        self.lengths = [0] * slots
