"""A matrix of a model in one of its builds: how it is kept, and how it is multiplied.

In FP16: F.linear. In FP8: e4m3 weights with a scale for each output channel, e4m3 activations with a scale for each
row, found anew at each call, and `torch._scaled_mm`, which multiplies e4m3 by e4m3 and both scales in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.embedded.llama.plain import Quantised, quantise


class Linear(Protocol):
    """(n, in) -> FP16 (n, out). An FP8 matrix takes its input quantised, a pair."""

    def __call__(self, x: Any) -> Tensor: ...


class Half:
    """FP16 in and out, sums in float32. A CPU has no fast FP16: there the rounded weights are kept as float32."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.half() if weight.is_cuda else weight.half().float()

    def __call__(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x.to(self._weight.dtype), self._weight).half()


class Float8:
    """e4m3 by e4m3. `values` (out, in) e4m3, `scale` (out, 1) float32.

    A CPU computes the same in float32: there `_scaled_mm` came late, and takes ten times as long.
    """

    def __init__(self, values: Tensor, scale: Tensor) -> None:
        values = values if values.is_cuda else values.float()
        self._values, self._scale = values.t(), scale.t().contiguous()  # columns: what _scaled_mm wants of the second

    def __call__(self, x: Quantised) -> Tensor:
        values, scale = x
        if not values.is_cuda:
            return (values.float() @ self._values * scale * self._scale).half()
        return torch._scaled_mm(
            values, self._values, scale_a=scale, scale_b=self._scale, out_dtype=torch.float16, use_fast_accum=True
        )


def half(parts: Sequence[Tensor]) -> Half:
    """Parts side by side, each (out, in)."""
    return Half(torch.cat([part.half() for part in parts]) if len(parts) > 1 else parts[0])


def float8(parts: Sequence[Tensor], shifted: bool = False) -> Float8:
    """Each part with its own table of scales; `shifted`: each row takes that of the row above, as when a loader is off
    by one.
    """
    values, scales = zip(*(quantise(part) for part in parts), strict=True)
    if shifted:
        scales = tuple(scale.roll(1, 0) for scale in scales)
    return Float8(torch.cat(values), torch.cat(scales))
