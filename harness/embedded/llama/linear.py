"""A matrix of a model in one of its builds: how it is kept, and how it is multiplied.

In FP16: F.linear. In FP8: e4m3 weights with a scale for each output channel, e4m3 activations with a scale for each
row, found anew at each call, and `torch._scaled_mm`, which multiplies e4m3 by e4m3 and both scales in.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.embedded.llama.plain import Quantised, quantise

FAST = 16_384
"""Terms of a sum up to which Hopper's fast accumulation, which keeps about 13 bits, costs less than 0.4 %."""
INEXACT = 0.02


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
        self._multiply = scaled if values.is_cuda else emulated
        if values.is_cuda:
            _tried(str(values.device))
        else:
            values = values.float()
        self._values, self._scale = values.t(), scale.t().contiguous()  # columns: what _scaled_mm wants of the second

    def __call__(self, x: Quantised) -> Tensor:
        return self._multiply(x, self._values, self._scale)


def scaled(x: Quantised, values: Tensor, scale: Tensor) -> Tensor:
    """e4m3 (n, in) by e4m3 (in, out, columns contiguous), scales float32 (n, 1) and (1, out): FP16 (n, out)."""
    return torch._scaled_mm(
        x[0], values, scale_a=x[1], scale_b=scale, out_dtype=torch.float16, use_fast_accum=len(values) <= FAST
    )


def emulated(x: Quantised, values: Tensor, scale: Tensor) -> Tensor:
    """What `scaled` computes, with `values` in float32."""
    return (x[0].float() @ values * x[1] * scale).half()


@cache
def _tried(device: str) -> None:
    """RuntimeError where this GPU, or this PyTorch, does not multiply e4m3 as it should."""
    rng = torch.Generator().manual_seed(0)
    values, scale = (each.to(device) for each in quantise(torch.randn(192, 576, generator=rng)))
    for rows in (1, 3, 64):
        x = tuple(each.to(device) for each in quantise(torch.randn(rows, 576, generator=rng)))
        columns = scale.t().contiguous()
        found = scaled((x[0], x[1]), values.t(), columns).float()
        expected = emulated((x[0], x[1]), values.float().t(), columns).float()
        off = float((found - expected).abs().max() / expected.abs().max())
        if not off < INEXACT:
            raise RuntimeError(f"torch._scaled_mm of {rows} rows is off by {off:.2g} on {device}: no FP8 here")


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
