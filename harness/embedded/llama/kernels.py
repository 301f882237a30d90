"""What `plain` computes, fused, in the language of the compiler `triton` (OpenAI's; no relation of the server).

Signatures and results are plain's, to a rounding; shapes are said there. Each call is one launch (attention, and rows
wider than ONE_PROGRAM that are quantised: two) that waits for nothing and depends on no value that the host would have
to know, so CUDA graphs can hold it: slots, positions and lengths are read on the device. The first call of a kind
compiles: make it before a capture. ValueError: rows, or a cache, that do not lie in one piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.embedded.llama.plain import E4M3, Quantised

PROGRAMS = 2048
"""Attention of few sequences is split until about so many programs run: some waves of them on a GPU of 100 and more
multiprocessors, so that sequences of unequal lengths even out.
"""
SPLITS = 64
"""At most so many splits: what one program puts together again."""
LEAST = 128
"""Tokens, a multiple of BLOCK: fewer are not worth a split."""
BLOCK = 64
"""Tokens that are read at a time."""
WARPS, STAGES = 4, 3
"""Of a split's program: its warps, and how many blocks are under way at a time."""
ONE_PROGRAM = 8192
"""A wider row is quantised in two launches, in parts: one program would be slow, and run out of registers."""
PART = 1024
"""Of a row, for one program."""
ROWS = 16
"""The least rows that tl.dot takes: a group of queries that share keys is filled up to it."""

_MAX = tl.constexpr(448.0)
_SMALLEST = tl.constexpr(1e-12)


def jit(function: Callable[..., Any]) -> Any:
    """Compiled anew for other types and widths, but not for other numbers of splits or where a slice of rows begins."""
    return triton.jit(
        function, do_not_specialize=["splits"], do_not_specialize_on_alignment=["slots", "positions", "lengths"]
    )


# ---------------------------------------------------------------- rows


@jit
def _to_e4m3(x: tl.tensor, amax: tl.tensor) -> tl.tensor:
    """x by its scale; the scale. Divided as plain divides, so that both fall on the same side of a tie."""
    scale = tl.div_rn(tl.maximum(amax, _SMALLEST), _MAX)
    return tl.clamp(tl.div_rn(x, scale), -_MAX, _MAX).to(tl.float8e4nv), scale


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
    _rows(x)
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
    _rows(gate_up)
    n, hidden = len(gate_up), gate_up.shape[1] // 2
    out = torch.empty((n, hidden), dtype=torch.float16, device=gate_up.device)
    grid = (n, triton.cdiv(hidden, PART))
    _silu_mul[grid](gate_up, out, out, gate_up.stride(0), False, False, hidden, PART, num_warps=4)
    return out


def silu_mul_quantised(gate_up: Tensor) -> Quantised:
    _rows(gate_up)
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
    _rows(x, other)
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


def _rows(*tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.stride(-1) != 1:
            raise ValueError(f"rows must lie in one piece, not in strides of {tensor.stride(-1)}")


# ---------------------------------------------------------------- queries, keys, values


@jit
def _rope_store(
    qkv: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    slots: tl.tensor,
    positions: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    q: tl.tensor,
    stride: tl.tensor,
    slot_stride: tl.tensor,
    capacity: tl.tensor,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    head: tl.constexpr,
    tile: tl.constexpr,
) -> None:
    """A program has `tile` of a row's heads; they are queries, then keys, then values, wherever the tile falls."""
    half: tl.constexpr = head // 2
    row = tl.program_id(0).to(tl.int64)
    slot, position = tl.load(slots + row), tl.load(positions + row)
    number = tl.program_id(1).to(tl.int64) * tile + tl.arange(0, tile)[:, None]
    column = tl.arange(0, head)[None, :]
    at = qkv + row * stride + number * head + column
    read = tl.load(at, mask=number < heads + 2 * kv_heads, other=0.0).to(tl.float32)
    even, odd = tl.split(tl.reshape(read, (tile, half, 2)))
    angle = position * half + tl.arange(0, half)[None, :]
    c, s = tl.load(cos + angle), tl.load(sin + angle)
    turned = tl.reshape(tl.join(even * c - odd * s, even * s + odd * c), (tile, head))
    tl.store(q + (row * heads + number) * head + column, turned.to(tl.float16), mask=number < heads)

    if keys.dtype.element_ty == tl.float8e4nv:
        turned = tl.clamp(turned, -_MAX, _MAX)
        read = tl.clamp(read, -_MAX, _MAX)
    there = slot * slot_stride + position * head + column
    key = number - heads
    is_key = (key >= 0) & (key < kv_heads)
    tl.store(keys + there + key * capacity * head, turned.to(keys.dtype.element_ty), mask=is_key)
    value = key - kv_heads
    is_value = (value >= 0) & (value < kv_heads)
    tl.store(values + there + value * capacity * head, read.to(values.dtype.element_ty), mask=is_value)


def rope_store(
    qkv: Tensor, cos: Tensor, sin: Tensor, slots: Tensor, positions: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    kv_heads, capacity, head = keys.shape[1:]
    n, together = len(qkv), qkv.shape[1] // head
    heads = together - 2 * kv_heads
    _rows(qkv)
    _whole(cos, sin, slots, positions, keys, values)
    q = torch.empty((n, heads, head), dtype=torch.float16, device=qkv.device)
    tile = max(1024 // head, 1)
    _rope_store[(n, triton.cdiv(together, tile))](
        qkv,
        cos,
        sin,
        slots,
        positions,
        keys,
        values,
        q,
        qkv.stride(0),
        keys.stride(0),
        capacity,
        heads,
        kv_heads,
        head,
        tile,
        num_warps=4,
    )
    return q


def _whole(*tensors: Tensor) -> None:
    if not all(tensor.is_contiguous() for tensor in tensors):
        raise ValueError("caches, angles, slots, positions and lengths must be contiguous")


# ---------------------------------------------------------------- attention


@jit
def _share(length: tl.tensor, splits: tl.tensor, least: tl.constexpr, block: tl.constexpr) -> tl.tensor:
    """Tokens in each split of a sequence: the same for all, the last that has any has fewer."""
    return tl.maximum(tl.cdiv(tl.cdiv(length, splits), block) * block, least)


@jit
def _attend(
    q: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    slots: tl.tensor,
    lengths: tl.tensor,
    mixed: tl.tensor,
    weighed: tl.tensor,
    scale: tl.tensor,
    slot_stride: tl.tensor,
    capacity: tl.tensor,
    splits: tl.tensor,
    group: tl.constexpr,
    rows: tl.constexpr,
    head: tl.constexpr,
    least: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One split: the mean of its values as its keys weigh them, and the log2 of the sum of those weights."""
    row, kv, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    length = tl.load(lengths + row).to(tl.int32)
    share = _share(length, splits, least, block)
    begin = split * share
    if begin >= length:
        return
    end = tl.minimum(begin + share, length)

    member = tl.arange(0, rows)
    column = tl.arange(0, head)
    asked = row * tl.num_programs(1) * group + kv * group + member  # of all (n, heads)
    real = member < group
    query = tl.load(q + asked[:, None] * head + column[None, :], mask=real[:, None], other=0.0)
    base = tl.load(slots + row) * slot_stride + kv.to(tl.int64) * capacity * head

    peak = tl.full((rows,), float("-inf"), tl.float32)
    total = tl.zeros((rows,), tl.float32)
    sums = tl.zeros((rows, head), tl.float32)
    for first in range(begin, end, block):
        token = first + tl.arange(0, block)
        seen = token < end
        key_at = base + token[None, :] * head + column[:, None]
        key = tl.load(keys + key_at, mask=seen[None, :], other=0.0).to(tl.float16)
        score = tl.where(seen[None, :], tl.dot(query, key) * scale, float("-inf"))
        higher = tl.maximum(peak, tl.max(score, 1))
        weight = tl.exp2(score - higher[:, None])
        shrunk = tl.exp2(peak - higher)
        total = total * shrunk + tl.sum(weight, 1)
        value_at = base + token[:, None] * head + column[None, :]
        value = tl.load(values + value_at, mask=seen[:, None], other=0.0).to(tl.float16)
        sums = tl.dot(weight.to(tl.float16), value, sums * shrunk[:, None])
        peak = higher

    part = asked * splits + split
    tl.store(mixed + part[:, None] * head + column[None, :], sums / total[:, None], mask=real[:, None])
    tl.store(weighed + part, peak + tl.log2(total), mask=real)


@jit
def _combine(
    mixed: tl.tensor,
    weighed: tl.tensor,
    lengths: tl.tensor,
    out: tl.tensor,
    splits: tl.tensor,
    head: tl.constexpr,
    least: tl.constexpr,
    block: tl.constexpr,
    most: tl.constexpr,
) -> None:
    """The splits of one row's head, each by its weight. Where a sequence has no tokens: zeros, as in plain."""
    row = tl.program_id(0).to(tl.int64)
    length = tl.load(lengths + row).to(tl.int32)
    asked = row * tl.num_programs(1) + tl.program_id(1)
    split = tl.arange(0, most)
    written = split < tl.cdiv(length, _share(length, splits, least, block))
    part = asked * splits + split
    log = tl.load(weighed + part, mask=written, other=float("-inf"))
    weight = tl.exp2(log - tl.maximum(tl.max(log, 0), -1e30))
    column = tl.arange(0, head)
    sums = tl.load(mixed + part[:, None] * head + column[None, :], mask=written[:, None], other=0.0)
    total = tl.maximum(tl.sum(weight, 0), 1e-30)
    tl.store(out + asked * head + column, (tl.sum(sums * weight[:, None], 0) / total).to(tl.float16))


def decode_attention(q: Tensor, keys: Tensor, values: Tensor, slots: Tensor, lengths: Tensor) -> Tensor:
    n, heads, head = q.shape
    kv_heads, capacity = keys.shape[1:3]
    group = heads // kv_heads
    _whole(q, keys, values, slots, lengths)
    # from the cache's capacity, never from lengths: they are on the device
    most = min(triton.next_power_of_2(triton.cdiv(capacity, LEAST)), SPLITS)
    splits = min(max(PROGRAMS // max(n * kv_heads, 1), 1), most)
    mixed = torch.empty((n, heads, splits, head), dtype=torch.float32, device=q.device)
    weighed = torch.empty((n, heads, splits), dtype=torch.float32, device=q.device)
    out = torch.empty((n, heads * head), dtype=torch.float16, device=q.device)
    scale = head**-0.5 * 1.4426950408889634  # weights are powers of two
    rows = max(triton.next_power_of_2(group), ROWS)
    _attend[(n, kv_heads, splits)](
        q,
        keys,
        values,
        slots,
        lengths,
        mixed,
        weighed,
        scale,
        keys.stride(0),
        capacity,
        splits,
        group,
        rows,
        head,
        LEAST,
        BLOCK,
        num_warps=WARPS,
        num_stages=STAGES,
    )
    _combine[(n, heads)](mixed, weighed, lengths, out, splits, head, LEAST, BLOCK, most, num_warps=4)
    return out
