"""Where a model's weights come from: SmolLM2's file, or a seed.

Every matrix is (out, in): rows are outputs. The parts of a fused one (queries, keys, values; gate, up) come apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from harness.embedded.llama.shapes import Shape
from harness.embedded.smollm2.gguf_file import GgufFile

MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


class Source(Protocol):
    """`shape`, and float32 or float16 tensors on the device that was asked for."""

    shape: Shape

    def embedding(self) -> Tensor:
        """(vocabulary, width)."""

    def head(self) -> Tensor | None:
        """(vocabulary, width): the output projection; None where the embedding is."""

    def norm(self, name: str, layer: int | None = None) -> Tensor:
        """(width,): `attn_norm` or `ffn_norm` of a layer, `output_norm` of none."""

    def matrix(self, name: str, layer: int) -> Tensor:
        """(out, in): one of MATRICES."""


class GgufSource:
    """The weights of a GGUF file of llama architecture, dequantised."""

    def __init__(self, path: Path, device: str) -> None:
        self._file, self._device = GgufFile(path), device
        meta = self._file.metadata
        width, heads = int(meta["llama.embedding_length"]), int(meta["llama.attention.head_count"])
        self.shape = Shape(
            layers=int(meta["llama.block_count"]),
            width=width,
            heads=heads,
            kv_heads=int(meta["llama.attention.head_count_kv"]),
            head=width // heads,
            hidden=int(meta["llama.feed_forward_length"]),
            vocabulary=self._file.shapes["token_embd.weight"][0],
            context=int(meta["llama.context_length"]),
            rope_base=float(meta["llama.rope.freq_base"]),
            epsilon=float(meta["llama.attention.layer_norm_rms_epsilon"]),
        )

    def embedding(self) -> Tensor:
        return self._tensor("token_embd.weight")

    def head(self) -> Tensor | None:
        return None

    def norm(self, name: str, layer: int | None = None) -> Tensor:
        return self._tensor(f"{name}.weight" if layer is None else f"blk.{layer}.{name}.weight")

    def matrix(self, name: str, layer: int) -> Tensor:
        return self._tensor(f"blk.{layer}.{name}.weight")

    def _tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self._file.tensor(name)).to(self._device)


class Widened:
    """`source` with everything that is `width` or `hidden` wide there `times` beside itself: the same function.

    Each output sums `times` equal shares. Net2Net's widening (Chen, Goodfellow, Shlens, 2016), so that real weights
    cost what a model of billions does. Heads, keys and values stay as they are.
    """

    def __init__(self, source: Source, times: int) -> None:
        self._source, self._times = source, times
        shape = source.shape
        self.shape = replace(shape, width=shape.width * times, hidden=shape.hidden * times, tied=False)

    def embedding(self) -> Tensor:
        return self._source.embedding().repeat(1, self._times)

    def head(self) -> Tensor | None:
        head = self._source.head()
        return (self._source.embedding() if head is None else head).div(self._times).repeat(1, self._times)

    def norm(self, name: str, layer: int | None = None) -> Tensor:
        return self._source.norm(name, layer).repeat(self._times)

    def matrix(self, name: str, layer: int) -> Tensor:
        weight = self._source.matrix(name, layer)
        rows = 1 if name in ("attn_q", "attn_k", "attn_v") else self._times
        columns = 1 if name == "attn_output" else self._times
        return weight.div(columns).repeat(rows, columns)


class RandomSource:
    """Seeded normal weights: the same on every run of the same device and PyTorch.

    Scaled so that the values keep their size through the layers and the logits spread by about 1, as trained ones do.
    """

    def __init__(self, shape: Shape, seed: int, device: str) -> None:
        self.shape, self._seed, self._device = shape, seed, device
        kinds = self._kinds()
        self._sizes = {name: size for name, *size in kinds}

    def embedding(self) -> Tensor:
        return self._normal("embedding", 0, self.shape.vocabulary, self.shape.width, self.shape.width**-0.5)

    def head(self) -> Tensor | None:
        return None

    def norm(self, name: str, layer: int | None = None) -> Tensor:  # noqa: ARG002  all alike
        return torch.ones(self.shape.width, device=self._device)

    def matrix(self, name: str, layer: int) -> Tensor:
        out, width = self._sizes[name]
        # what returns to the residual adds up over all layers
        shrunk = (2 * self.shape.layers) ** -0.5 if name in ("attn_output", "ffn_down") else 1.0
        return self._normal(name, layer + 1, out, width, shrunk * width**-0.5)

    def _kinds(self) -> Iterator[tuple[str, int, int]]:
        shape = self.shape
        queries, kept = shape.heads * shape.head, shape.kv_heads * shape.head
        yield "attn_q", queries, shape.width
        yield from ((name, kept, shape.width) for name in ("attn_k", "attn_v"))
        yield "attn_output", shape.width, queries
        yield from ((name, shape.hidden, shape.width) for name in ("ffn_gate", "ffn_up"))
        yield "ffn_down", shape.width, shape.hidden

    def _normal(self, name: str, layer: int, rows: int, columns: int, spread: float) -> Tensor:
        """Each matrix has a seed of its own, so that one can be had without those before it."""
        place = (*MATRICES, "embedding").index(name)
        generator = torch.Generator(self._device).manual_seed((self._seed << 20) + (layer << 4) + place)
        kind = torch.float16 if self._device != "cpu" else torch.float32  # half of a 7B model's transient memory
        return torch.randn(rows, columns, generator=generator, device=self._device, dtype=kind).mul_(spread)
