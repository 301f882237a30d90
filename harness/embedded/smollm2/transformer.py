"""The llama architecture in NumPy: float32, key-value cache, grouped-query attention.

Weights are (in, out): a single row times such a matrix was 15 % faster than with the GGUF's (out, in). RoPE
rotates neighbouring pairs (2i, 2i+1): llama.cpp's converter permutes the query and key rows so that this is
the original's rotation of halves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from harness.embedded.smollm2.gguf_file import GgufFile
from harness.embedded.smollm2.quantise import Rounding

Array = NDArray[np.float32]
# A long prompt goes through in blocks: bounds the scores' memory, and lets an abandoned request stop.
BLOCK = 256


@dataclass(frozen=True, slots=True)
class Layer:
    attn_norm: Array  # (width,)
    qkv: Array  # (width, (heads + 2 kv_heads) * head)
    attn_output: Array  # (heads * head, width)
    ffn_norm: Array  # (width,)
    gate_up: Array  # (width, 2 * hidden)
    ffn_down: Array  # (hidden, width)


class Cache:
    """Keys and values of one sequence, `length` positions of `capacity` filled; kept as float32 or float16."""

    def __init__(self, layers: int, kv_heads: int, head: int, capacity: int, kept: np.dtype[Any]) -> None:
        self.length = 0
        self.capacity = capacity
        # keys lie transposed: (head, position), as the scores' product wants them
        self.keys = np.empty((layers, kv_heads, head, capacity), kept)
        self.values = np.empty((layers, kv_heads, capacity, head), kept)

    def filled(self, layer: int, end: int) -> tuple[Array, Array]:
        """Keys (kv_heads, head, end) and values (kv_heads, end, head) of a layer, as the arithmetic wants them."""
        keys, values = self.keys[layer, :, :, :end], self.values[layer, :, :end]
        return keys.astype(np.float32, copy=False), values.astype(np.float32, copy=False)


class Transformer:
    """One version's weights. `context`, `vocabulary`: tokens."""

    def __init__(self, file: GgufFile, rounding: Rounding, layers: int | None = None) -> None:
        """`layers`: how many of them to use, from the first; None: all."""
        meta = file.metadata
        self.context = int(meta["llama.context_length"])
        self.heads = int(meta["llama.attention.head_count"])
        self.kv_heads = int(meta["llama.attention.head_count_kv"])
        self.width = int(meta["llama.embedding_length"])
        self.head = self.width // self.heads
        self._epsilon = np.float32(meta["llama.attention.layer_norm_rms_epsilon"])

        def tensor(name: str) -> Array:
            return rounding(name, file.tensor(name))

        def columns(block: int, *names: str) -> Array:
            parts = [tensor(f"blk.{block}.{name}.weight") for name in names]
            return np.ascontiguousarray(np.concatenate(parts).T)

        self._embedding = tensor("token_embd.weight")  # (vocabulary, width): looked up by row
        self.vocabulary = self._embedding.shape[0]
        self._norm = tensor("output_norm.weight")
        self._layers = [
            Layer(
                attn_norm=tensor(f"blk.{i}.attn_norm.weight"),
                qkv=columns(i, "attn_q", "attn_k", "attn_v"),
                attn_output=columns(i, "attn_output"),
                ffn_norm=tensor(f"blk.{i}.ffn_norm.weight"),
                gate_up=columns(i, "ffn_gate", "ffn_up"),
                ffn_down=columns(i, "ffn_down"),
            )
            for i in range(layers or int(meta["llama.block_count"]))
        ]
        base = float(meta["llama.rope.freq_base"])
        angles = np.outer(np.arange(self.context), base ** (-np.arange(0, self.head, 2) / self.head))
        self._cos, self._sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def cache(self, capacity: int, kept: DTypeLike = np.float32) -> Cache:
        return Cache(len(self._layers), self.kv_heads, self.head, capacity, np.dtype(kept))

    def forward(
        self, ids: NDArray[np.int32], cache: Cache, last: int = 1, stop: Callable[[], bool] = lambda: False
    ) -> Array:
        """Appends `ids` to the cache; logits (last, vocabulary) of the last `last` of them.

        `stop` is asked between blocks; InterruptedError once it says so.
        """
        hidden = []
        for begin in range(0, len(ids), BLOCK):
            if begin and stop():
                raise InterruptedError
            hidden.append(self._block(ids[begin : begin + BLOCK], cache))
        x = np.concatenate(hidden)[-last:] if len(hidden) > 1 else hidden[0][-last:]
        x = self._rms(x, self._norm)
        # a matrix times one vector reads the rows in order; (last, width) @ (width, vocabulary) for more
        logits: Array = (self._embedding @ x[0])[None] if last == 1 else x @ self._embedding.T
        return logits

    def _block(self, ids: NDArray[np.int32], cache: Cache) -> Array:
        count, start = len(ids), cache.length
        end = start + count
        x: Array = self._embedding[ids]
        cos, sin = self._cos[start:end, None], self._sin[start:end, None]
        mask = None
        if count > 1:
            mask = np.where(np.arange(end) > np.arange(start, end)[:, None], np.float32(-np.inf), np.float32(0))
        for index, layer in enumerate(self._layers):
            x = x + self._attend(x, layer, index, cache, cos, sin, mask)
            gate, up = np.split(self._rms(x, layer.ffn_norm) @ layer.gate_up, 2, axis=1)
            x = x + (gate / (1 + np.exp(-gate)) * up) @ layer.ffn_down
        cache.length = end
        return x

    def _attend(
        self, x: Array, layer: Layer, index: int, cache: Cache, cos: Array, sin: Array, mask: Array | None
    ) -> Array:
        count, start = len(x), cache.length
        end = start + count
        heads, kv, size = self.heads, self.kv_heads, self.head
        qkv = (self._rms(x, layer.attn_norm) @ layer.qkv).reshape(count, heads + 2 * kv, size)
        turned = _rotate(qkv[:, : heads + kv], cos, sin)
        cache.keys[index, :, :, start:end] = turned[:, heads:].transpose(1, 2, 0)
        cache.values[index, :, start:end] = qkv[:, heads + kv :].transpose(1, 0, 2)
        # query heads are grouped by the key-value head that they share: (kv, group * count, size)
        query = turned[:, :heads].transpose(1, 0, 2).reshape(kv, -1, size)
        keys, values = cache.filled(index, end)
        scores = query @ keys * np.float32(size**-0.5)
        if mask is not None:
            scores = (scores.reshape(heads, count, end) + mask).reshape(kv, -1, end)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = (scores @ values).reshape(heads, count, size)
        result: Array = mixed.transpose(1, 0, 2).reshape(count, -1) @ layer.attn_output
        return result

    def _rms(self, x: Array, weight: Array) -> Array:
        mean = np.einsum("ij,ij->i", x, x)[:, None] / np.float32(x.shape[1])
        result: Array = x / np.sqrt(mean + self._epsilon) * weight
        return result


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    """RoPE on pairs of neighbours. x (count, heads, head); cos, sin (count, 1, head / 2)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = np.empty_like(x)
    turned[..., 0::2] = even * cos - odd * sin
    turned[..., 1::2] = even * sin + odd * cos
    return turned
