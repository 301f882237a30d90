"""What `plain` computes, fused, in the language of the compiler `triton` (OpenAI's; no relation of the server).

Signatures and results are plain's, to a rounding; shapes are said there. Each call is one launch (attention, and rows
too wide for one program that are quantised: two) that waits for nothing and depends on no value that the host would
have to know, so CUDA graphs can hold it: slots, positions and lengths are read on the device. The first call of a kind
compiles: make it before a capture. ValueError: rows, or a cache, that do not lie in one piece.
"""

from harness.embedded.llama.kernels.attention import decode_attention, rope_store
from harness.embedded.llama.kernels.rows import (
    add_norm,
    add_norm_quantised,
    quantise,
    silu_mul,
    silu_mul_quantised,
)

__all__ = [
    "add_norm",
    "add_norm_quantised",
    "decode_attention",
    "quantise",
    "rope_store",
    "silu_mul",
    "silu_mul_quantised",
]
