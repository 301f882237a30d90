"""Shapes of models of llama architecture, and what follows from a shape by arithmetic alone. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """Widths in numbers of values, `context` in tokens. `tied`: the output projection is the embedding."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    hidden: int
    vocabulary: int
    context: int
    rope_base: float = 10_000.0
    epsilon: float = 1e-5
    tied: bool = True

    @property
    def qkv(self) -> int:
        """Columns of queries, keys and values together."""
        return (self.heads + 2 * self.kv_heads) * self.head

    @property
    def layer_weights(self) -> int:
        """Weights of the four matrices of one layer."""
        return self.width * (self.qkv + self.heads * self.head + 3 * self.hidden)

    @property
    def weights(self) -> int:
        """Of all: layers, norms, embedding."""
        norms = (2 * self.layers + 1) * self.width
        ends = (1 if self.tied else 2) * self.vocabulary * self.width
        return self.layers * self.layer_weights + norms + ends

    def kv_bytes(self, bits: int) -> int:
        """Of the keys and values of one token, kept in so many bits."""
        return self.layers * 2 * self.kv_heads * self.head * bits // 8

    def step_flops(self, batch: int) -> int:
        """Multiplications and additions of the matrices in one step of so many sequences; attention not counted."""
        return 2 * batch * (self.layers * self.layer_weights + self.vocabulary * self.width)

    def step_bytes(self, weight_bits: int, kv_bits: int, batch: int, length: int) -> int:
        """What one step has to read: each weight once, and the keys and values of `batch` sequences of `length`.

        The output projection stays FP16 in every build.
        """
        matrices = self.layers * self.layer_weights * weight_bits // 8
        return matrices + 2 * self.vocabulary * self.width + batch * length * self.kv_bytes(kv_bits)


SHAPES: dict[str, Shape] = {
    # for tests: every width a multiple of 16, as `torch._scaled_mm` wants them
    "tiny": Shape(layers=2, width=64, heads=4, kv_heads=2, head=16, hidden=128, vocabulary=512, context=512),
    # of Llama 3.2 1B, Llama 2 7B and Llama 3 8B
    "1b": Shape(16, 2048, 32, 8, 64, 8192, 128_256, 131_072, rope_base=500_000.0),
    "7b": Shape(32, 4096, 32, 32, 128, 11_008, 32_000, 32_768),
    "8b": Shape(32, 4096, 32, 8, 128, 14_336, 128_256, 131_072, rope_base=500_000.0),
}
"""Those with seeded random weights. SmolLM2's shape comes from its file."""
