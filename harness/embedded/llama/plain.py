"""The arithmetic around the matrices, in plain PyTorch: what a CPU uses, and what `kernels` has to equal.

Sequences that are stepped together are rows. n: rows; a cache of one layer is (slots, kv_heads, capacity, head), in
the type that it is kept in. A quantised matrix is a pair: e4m3 values (n, k) and each row's scale, float32 (n, 1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0
SMALLEST = 1e-12

Quantised = tuple[Tensor, Tensor]


def quantise(x: Tensor) -> Quantised:
    """Each row of x (n, k) scaled by its own largest value, and rounded to e4m3."""
    x = x.float()
    scale = x.abs().amax(dim=1, keepdim=True).clamp_min(SMALLEST) / E4M3_MAX
    return (x / scale).clamp(-E4M3_MAX, E4M3_MAX).to(E4M3), scale


def add_norm(x: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    """Adds `delta` (n, width), of any type, to the residual x, float32, in place; its RMS norm, in FP16.

    `weight`: float32 (width,).
    """
    if delta is not None:
        x += delta
    mean = x.square().mean(dim=1, keepdim=True)
    return (x * torch.rsqrt(mean + epsilon) * weight).half()


def add_norm_quantised(x: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Quantised:
    """`add_norm`, quantised."""
    return quantise(add_norm(x, delta, weight, epsilon))


def silu_mul(gate_up: Tensor) -> Tensor:
    """gate_up (n, 2 * hidden), FP16 -> silu(gate) * up, FP16 (n, hidden)."""
    gate, up = gate_up.float().chunk(2, dim=1)
    return (torch.nn.functional.silu(gate) * up).half()


def silu_mul_quantised(gate_up: Tensor) -> Quantised:
    """`silu_mul`, quantised."""
    return quantise(silu_mul(gate_up))


def rope_store(
    qkv: Tensor, cos: Tensor, sin: Tensor, slots: Tensor, positions: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """Turns queries and keys by their position, and keeps keys and values: each row in its slot, at its position.

    qkv: FP16 (n, (heads + 2 * kv_heads) * head), queries first; cos, sin: float32 (context, head / 2); slots and
    positions: int64 (n,); keys, values: one layer of the cache, written in place. Neighbours (2i, 2i + 1) are a pair,
    as in GGUF. Returns the queries, FP16 (n, heads, head).
    """
    kv_heads, head = keys.shape[1], keys.shape[3]
    each = qkv.view(len(qkv), -1, head)
    heads = each.shape[1] - 2 * kv_heads
    turned = _turned(each[:, : heads + kv_heads], cos[positions], sin[positions])
    keys[slots, :, positions] = kept(turned[:, heads:], keys.dtype)
    values[slots, :, positions] = kept(each[:, heads + kv_heads :], values.dtype)
    return turned[:, :heads].half()


def decode_attention(q: Tensor, keys: Tensor, values: Tensor, slots: Tensor, lengths: Tensor) -> Tensor:
    """What each row's query sees of its own slot's first `lengths` positions (int64 (n,), its own included).

    q: FP16 (n, heads, head). Returns FP16 (n, heads * head).
    """
    mixed = [
        attention(query[None], keys[slot, :, :length], values[slot, :, :length])
        for query, slot, length in zip(q, slots.tolist(), lengths.tolist(), strict=True)
    ]
    return torch.cat(mixed)


def attention(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One sequence: q FP16 (n, heads, head) are its last n positions; keys, values (kv_heads, all of them, head).

    Returns FP16 (n, heads * head).
    """
    mixed = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(0, 1)[None],
        keys.to(q.dtype)[None],
        values.to(q.dtype)[None],
        attn_mask=_lower_right(len(q), keys.shape[1]),
        enable_gqa=True,
    )
    return mixed[0].transpose(0, 1).reshape(len(q), -1)


def kept(x: Tensor, kind: torch.dtype) -> Tensor:
    """In the type of the cache. e4m3 is kept unscaled and cut at its ends: 448 is far above keys and values."""
    return x.float().clamp(-E4M3_MAX, E4M3_MAX).to(kind) if kind == E4M3 else x.to(kind)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (n, heads, head) by the angles (n, head / 2); float32."""
    even, odd = x.float().reshape(*x.shape[:2], -1, 2).unbind(3)
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=3).flatten(2)


def _lower_right(rows: int, columns: int) -> Any:
    """Row i sees all but the last rows - 1 - i columns; None where it sees all of them."""
    from torch.nn.attention.bias import causal_lower_right

    return causal_lower_right(rows, columns) if rows > 1 else None
