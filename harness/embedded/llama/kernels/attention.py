"""Queries, keys and values: turned and kept, and what the queries of one step see of the keys."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.embedded.llama.kernels.compiling import E4M3_MOST, check_rows, jit

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
ROWS = 16
"""The least rows that tl.dot takes: a group of queries that share keys is filled up to it."""


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
        turned = tl.clamp(turned, -E4M3_MOST, E4M3_MOST)
        read = tl.clamp(read, -E4M3_MOST, E4M3_MOST)
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
    check_rows(qkv)
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
