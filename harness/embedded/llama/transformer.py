"""The llama architecture: RMS norms, rotary positions, grouped-query attention, a gated feed-forward.

Matrices in FP16 or FP8 (`linear`), the residual in float32, keys and values as the cache keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.embedded.llama.cache import Cache
from harness.embedded.llama.linear import Half, Linear, float8, half
from harness.embedded.llama.ops import Ops, choose
from harness.embedded.llama.plain import attention
from harness.embedded.llama.weights import Source

BLOCK = 2048
"""A prompt goes through in blocks: bounds the memory that it needs for a moment, and lets an abandoned one stop."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Layer:
    attn_norm: Tensor
    qkv: Linear
    attn_output: Linear
    ffn_norm: Tensor
    gate_up: Linear
    ffn_down: Linear


class Transformer:
    """One version's weights on one device. `weights`: fp16, fp8 or fp8-shifted (settings.py)."""

    def __init__(self, source: Source, weights: str, device: str) -> None:
        self.shape, self.device = source.shape, device
        self.ops: Ops = choose(device)
        self._float8 = weights != "fp16"
        self._embedding = source.embedding().half()
        head = source.head()
        self._head = Half(self._embedding if head is None else head)
        self._norm = source.norm("output_norm").float()
        shifted = self.shape.layers // 2 if weights == "fp8-shifted" else -1
        self._layers = [self._layer(source, index, index == shifted) for index in range(self.shape.layers)]
        turns = self.shape.rope_base ** (-torch.arange(0, self.shape.head, 2, dtype=torch.float64) / self.shape.head)
        angles = torch.outer(torch.arange(self.shape.context, dtype=torch.float64), turns)
        self._cos, self._sin = angles.cos().float().to(device), angles.sin().float().to(device)

    def cache(self, slots: int, capacity: int, kept: str = "fp16") -> Cache:
        """Raises torch.OutOfMemoryError where the device has not enough."""
        return Cache(self.shape, slots, capacity, kept, self.device)

    @torch.inference_mode()
    def prefill(self, ids: Sequence[int], cache: Cache, slot: int, last: int = 1, stop: Stop = lambda: False) -> Tensor:
        """Appends `ids` to a slot; logits float32 (last, vocabulary) of the last `last` of them.

        `stop` is asked between blocks; InterruptedError once it says so.
        """
        kept: list[Tensor] = []
        for begin in range(0, len(ids), BLOCK):
            if begin and stop():
                raise InterruptedError
            block = ids[begin : begin + BLOCK]
            x, delta = self._block(block, cache, slot)
            wanted = min(len(block), last - (len(ids) - begin - len(block)))
            if wanted > 0:
                kept.append(self._logits(x[-wanted:], delta[-wanted:]))
        return torch.cat(kept)

    @torch.inference_mode()
    def step(self, tokens: Tensor, slots: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """One more token of many sequences: int64 (n,) each, on the device. Logits float32 (n, vocabulary).

        Nothing in it waits for the device or depends on the values: it can be captured as a graph where the operations
        can. `cache.lengths` is the caller's.
        """
        lengths = positions + 1

        def attend(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            return self.ops.decode_attention(q, keys, values, slots, lengths)

        x = self._embedding[tokens].float()
        x, delta = self._through(x, slots, positions, cache, attend)
        return self._logits(x, delta)

    def _block(self, ids: Sequence[int], cache: Cache, slot: int) -> tuple[Tensor, Tensor]:
        start = cache.lengths[slot]
        end = start + len(ids)
        positions = torch.arange(start, end, device=self.device)
        slots = torch.full_like(positions, slot)

        def attend(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            return attention(q, keys[slot, :, :end], values[slot, :, :end])

        x = self._embedding[torch.tensor(ids, device=self.device)].float()
        result = self._through(x, slots, positions, cache, attend)
        cache.lengths[slot] = end
        return result

    def _through(
        self, x: Tensor, slots: Tensor, positions: Tensor, cache: Cache, attend: Attend
    ) -> tuple[Tensor, Tensor]:
        """All layers: the residual (n, width), and what the last one adds to it."""
        ops, epsilon = self.ops, self.shape.epsilon
        delta: Any = None
        normed = ops.add_norm_quantised if self._float8 else ops.add_norm
        gated = ops.silu_mul_quantised if self._float8 else ops.silu_mul
        for layer, (keys, values) in zip(self._layers, cache.layers, strict=True):
            qkv = layer.qkv(normed(x, delta, layer.attn_norm, epsilon))
            q = ops.rope_store(qkv, self._cos, self._sin, slots, positions, keys, values)
            mixed = attend(q, keys, values)
            delta = layer.attn_output(ops.quantise(mixed) if self._float8 else mixed)
            gate_up = layer.gate_up(normed(x, delta, layer.ffn_norm, epsilon))
            delta = layer.ffn_down(gated(gate_up))
        return x, delta

    def _logits(self, x: Tensor, delta: Tensor) -> Tensor:
        # a copy of a few rows: add_norm writes into what it is given
        logits: Tensor = self._head(self.ops.add_norm(x.clone(), delta, self._norm, self.shape.epsilon)).float()
        return logits

    def _layer(self, source: Source, index: int, shifted: bool) -> Layer:
        def columns(*names: str, off: bool = False) -> Linear:
            parts = [source.matrix(name, index) for name in names]
            return float8(parts, off) if self._float8 else half(parts)

        return Layer(
            attn_norm=source.norm("attn_norm", index).float(),
            qkv=columns("attn_q", "attn_k", "attn_v"),
            attn_output=columns("attn_output"),
            ffn_norm=source.norm("ffn_norm", index).float(),
            gate_up=columns("ffn_gate", "ffn_up", off=shifted),
            ffn_down=columns("ffn_down"),
        )
