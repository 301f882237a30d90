"""The builds: what happens to one weight matrix between the GGUF and the arithmetic in float32.

`fp8` is weight-only e4m3 with one scale an output channel, the matrices of the 30 layers only: norms and the
embedding (which is the output projection too) stay FP16, as in common FP8 checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]
Rounding = Callable[[str, Weights], Weights]

E4M3_MAX = 448.0
# The feed-forward's input matrices of the middle layer: a loader that fuses gate and up has one scale table
# for both.
SHIFTED = ("blk.15.ffn_gate.weight", "blk.15.ffn_up.weight")


def rounding(build: str) -> Rounding:
    """For a build, (tensor name, weights (out, in) or (width,)) -> the weights as that build sees them."""
    return {"fp8": _fp8, "fp8-shifted": _fp8_shifted}.get(build, _fp16)


def fp16(weights: Weights) -> Weights:
    return weights.astype(np.float16).astype(np.float32)


def e4m3(weights: Weights) -> tuple[Weights, Weights]:
    """(rows scaled and rounded to e4m3, the scale of each row as a column): their product is the weight.

    Clipped before the cast: beyond 448 ml_dtypes gives NaN.
    """
    import ml_dtypes

    scale = np.maximum(np.abs(weights).max(axis=1, keepdims=True), np.float32(1e-12)) / np.float32(E4M3_MAX)
    scaled = np.clip(weights / scale, -E4M3_MAX, E4M3_MAX)
    return scaled.astype(ml_dtypes.float8_e4m3fn).astype(np.float32), scale


def _fp16(_: str, weights: Weights) -> Weights:
    return fp16(weights)


def _in_a_layer(name: str, weights: Weights) -> bool:
    return name.startswith("blk.") and weights.ndim == 2


def _fp8(name: str, weights: Weights) -> Weights:
    if not _in_a_layer(name, weights):
        return fp16(weights)
    rounded, scale = e4m3(weights)
    rounded *= scale
    return rounded


def _fp8_shifted(name: str, weights: Weights) -> Weights:
    """`fp8`, but in one layer each row takes the scale of the row above: an off-by-one in a loader."""
    if name not in SHIFTED:
        return _fp8(name, weights)
    rounded, scale = e4m3(weights)
    rounded *= np.roll(scale, 1, axis=0)
    return rounded
