"""Rows: their norms, their gates, and their rounding to e4m3."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.embedded.llama.kernels.compiling import E4M3_MOST, check_rows, jit
from harness.embedded.llama.plain import E4M3, Quantised

ONE_PROGRAM = 8192
"""A wider row is quantised in two launches, in parts: one program would be slow, and run out of registers."""
PART = 1024
"""Of a row, for one program."""

_SMALLEST = tl.constexpr(1e-12)


@jit
def _to_e4m3(x: tl.tensor, amax: tl.tensor) -> tl.tensor:
    """x by its scale; the scale. Divided as plain divides, so that both fall on the same side of a tie."""
    scale = tl.div_rn(tl.maximum(amax, _SMALLEST), E4M3_MOST)
    return tl.clamp(tl.div_rn(x, scale), -E4M3_MOST, E4M3_MOST).to(tl.float8e4nv), scale


@jit
def _quantise(
    x: tl.tensor, values: tl.tensor, scales: tl.tensor, stride: tl.tensor, width: tl.constexpr, block: tl.constexpr
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block)
    inside = column < width
    read = tl.load(x + row * stride + column, mask=inside, other=0.0).to(tl.float32)
    quantised, scale = _to_e4m3(read, tl.max(tl.abs(read), 0))
    tl.store(values + row * width + column, quantised, mask=inside)
    tl.store(scales + row, scale)


@jit
def _peaks(x: tl.tensor, peaks: tl.tensor, stride: tl.tensor, width: tl.constexpr, block: tl.constexpr) -> None:
    """The largest of each part of a row."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block + tl.arange(0, block)
    read = tl.load(x + row * stride + column, mask=column < width, other=0.0).to(tl.float32)
    tl.store(peaks + row * tl.num_programs(1) + tl.program_id(1), tl.max(tl.abs(read), 0))


@jit
def _quantise_part(
    x: tl.tensor,
    peaks: tl.tensor,
    values: tl.tensor,
    scales: tl.tensor,
    stride: tl.tensor,
    width: tl.constexpr,
    block: tl.constexpr,
    most: tl.constexpr,
) -> None:
    """One part of a row, by the largest of all its parts, at most `most`."""
    row, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    other = tl.arange(0, most)
    peak = tl.max(tl.load(peaks + row * parts + other, mask=other < parts, other=0.0), 0)
    column = part * block + tl.arange(0, block)
    read = tl.load(x + row * stride + column, mask=column < width, other=0.0).to(tl.float32)
    quantised, scale = _to_e4m3(read, peak)
    tl.store(values + row * width + column, quantised, mask=column < width)
    if part == 0:
        tl.store(scales + row, scale)


@jit
def _add_norm(
    x: tl.tensor,
    delta: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    scales: tl.tensor,
    stride: tl.tensor,
    delta_stride: tl.tensor,
    epsilon: tl.tensor,
    added: tl.constexpr,
    quantised: tl.constexpr,
    width: tl.constexpr,
    block: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block)
    inside = column < width
    at = x + row * stride + column
    read = tl.load(at, mask=inside, other=0.0)
    if added:
        read += tl.load(delta + row * delta_stride + column, mask=inside, other=0.0).to(tl.float32)
        tl.store(at, read, mask=inside)
    mean = tl.sum(read * read, 0) / width
    normed = read * tl.rsqrt(mean + epsilon) * tl.load(weight + column, mask=inside, other=0.0)
    half = normed.to(tl.float16)
    if quantised:
        again = half.to(tl.float32)
        kept, scale = _to_e4m3(again, tl.max(tl.abs(again), 0))
        tl.store(out + row * width + column, kept, mask=inside)
        tl.store(scales + row, scale)
    else:
        tl.store(out + row * width + column, half, mask=inside)


@jit
def _silu_mul(
    gate_up: tl.tensor,
    out: tl.tensor,
    scales: tl.tensor,
    stride: tl.tensor,
    quantised: tl.constexpr,
    peaks: tl.constexpr,
    hidden: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """`quantised`: a block is the whole row. `peaks`: where scales would be, the largest of each block."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < hidden
    at = gate_up + row * stride + column
    gate = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(at + hidden, mask=inside, other=0.0).to(tl.float32)
    half = (gate / (1.0 + tl.exp(-gate)) * up).to(tl.float16)
    again = half.to(tl.float32)
    if quantised:
        kept, scale = _to_e4m3(again, tl.max(tl.abs(again), 0))
        tl.store(out + row * hidden + column, kept, mask=inside)
        tl.store(scales + row, scale)
    else:
        tl.store(out + row * hidden + column, half, mask=inside)
        if peaks:
            tl.store(scales + row * tl.num_programs(1) + tl.program_id(1), tl.max(tl.abs(again), 0))


def quantise(x: Tensor) -> Quantised:
    check_rows(x)
    n, width = x.shape
    if width > ONE_PROGRAM:
        peaks = _parts(n, width, x)
        _peaks[peaks.shape](x, peaks, x.stride(0), width, PART, num_warps=4)
        return _quantise_parts(x, peaks)
    values, scales = _quantised(n, width, x)
    block, warps = _row_block(width)
    _quantise[(n,)](x, values, scales, x.stride(0), width, block, num_warps=warps)
    return values, scales


def add_norm(x: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    out = torch.empty(x.shape, dtype=torch.float16, device=x.device)
    _normed(x, delta, weight, epsilon, out, None)
    return out


def add_norm_quantised(x: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Quantised:
    values, scales = _quantised(x.shape[0], x.shape[1], x)
    _normed(x, delta, weight, epsilon, values, scales)
    return values, scales


def silu_mul(gate_up: Tensor) -> Tensor:
    check_rows(gate_up)
    n, hidden = len(gate_up), gate_up.shape[1] // 2
    out = torch.empty((n, hidden), dtype=torch.float16, device=gate_up.device)
    grid = (n, triton.cdiv(hidden, PART))
    _silu_mul[grid](gate_up, out, out, gate_up.stride(0), False, False, hidden, PART, num_warps=4)
    return out


def silu_mul_quantised(gate_up: Tensor) -> Quantised:
    check_rows(gate_up)
    n, hidden = len(gate_up), gate_up.shape[1] // 2
    if hidden > ONE_PROGRAM:
        half = torch.empty((n, hidden), dtype=torch.float16, device=gate_up.device)
        peaks = _parts(n, hidden, gate_up)
        _silu_mul[peaks.shape](gate_up, half, peaks, gate_up.stride(0), False, True, hidden, PART, num_warps=4)
        return _quantise_parts(half, peaks)
    values, scales = _quantised(n, hidden, gate_up)
    block, warps = _row_block(hidden)
    _silu_mul[(n, 1)](gate_up, values, scales, gate_up.stride(0), True, False, hidden, block, num_warps=warps)
    return values, scales


def _parts(n: int, width: int, like: Tensor) -> Tensor:
    """For the largest of each part of each row."""
    return torch.empty((n, triton.cdiv(width, PART)), dtype=torch.float32, device=like.device)


def _quantise_parts(x: Tensor, peaks: Tensor) -> Quantised:
    n, width = x.shape
    values, scales = _quantised(n, width, x)
    most = triton.next_power_of_2(peaks.shape[1])
    _quantise_part[peaks.shape](x, peaks, values, scales, x.stride(0), width, PART, most, num_warps=4)
    return values, scales


def _normed(
    x: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float, out: Tensor, scales: Tensor | None
) -> None:
    other = x if delta is None else delta
    check_rows(x, other)
    n, width = x.shape
    block, warps = _row_block(width)
    _add_norm[(n,)](
        x,
        other,
        weight,
        out,
        out if scales is None else scales,
        x.stride(0),
        other.stride(0),
        epsilon,
        delta is not None,
        scales is not None,
        width,
        block,
        num_warps=warps,
    )


def _quantised(n: int, width: int, like: Tensor) -> Quantised:
    return (
        torch.empty((n, width), dtype=E4M3, device=like.device),
        torch.empty((n, 1), dtype=torch.float32, device=like.device),
    )


def _row_block(width: int) -> tuple[int, int]:
    """One program has a whole row: its columns up to a power of two, and the warps for it."""
    block = triton.next_power_of_2(width)
    return block, min(max(block // 512, 1), 16)
