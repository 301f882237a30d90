"""Tensors as Triton's wires carry them: little-endian; each BYTES element after its 4-byte length."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from harness.errors import UsageError
from harness.types import TensorSpec

# KServe's name for numpy's; BF16 has none in numpy and travels as the upper half of an FP32.
DTYPES: dict[str, str] = {
    "BOOL": "?",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


class Tensor(NamedTuple):
    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes


def shape_of(spec: TensorSpec, max_batch_size: int, length: int = 1) -> tuple[int, ...]:
    """The shape to send: free dimensions become `length`; a batch of one stands in front where wanted."""
    shape = tuple(length if size < 0 else size for size in spec.shape)
    return (1, *shape) if max_batch_size > 0 else shape


def encode(datatype: str, values: Sequence[Any]) -> bytes:
    """Raw bytes of flat `values` (str, bytes, numbers, booleans). UsageError for an unknown datatype."""
    if datatype == "BYTES":
        parts = [value.encode() if isinstance(value, str) else bytes(value) for value in values]
        return b"".join(struct.pack("<I", len(part)) + part for part in parts)
    if datatype == "BF16":
        bits = np.asarray(values, "<f4").view("<u4")
        nearest = bits + 0x7FFF + (bits >> 16 & 1)  # ties to even, as hardware rounds
        upper = np.where(np.isnan(bits.view("<f4")), bits | 0x400000, nearest) >> 16
        return bytes(upper.astype("<u2").tobytes())
    if datatype not in DTYPES:
        raise UsageError(f"datatype {datatype} cannot be sent")
    return np.asarray(values, DTYPES[datatype]).tobytes()


def decode(datatype: str, raw: bytes) -> list[Any]:
    """The flat values of raw bytes; BYTES elements stay bytes. ValueError for bytes that do not fit."""
    if datatype == "BYTES":
        values, offset = [], 0
        while offset < len(raw):
            (length,) = struct.unpack_from("<I", raw, offset)
            offset += 4 + length
            if offset > len(raw):
                raise ValueError("a BYTES tensor ends too early")
            values.append(raw[offset - length : offset])
        return values
    if datatype == "BF16":
        return list((np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").tolist())
    return list(np.frombuffer(raw, DTYPES[datatype]).tolist())


def floats(datatype: str, raw: bytes) -> Any:
    """The flat values of a tensor of floats as an array; None for other datatypes. ValueError as `decode`."""
    if datatype == "BF16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, DTYPES[datatype]) if datatype in ("FP16", "FP32", "FP64") else None


def tensor(spec: TensorSpec, max_batch_size: int, values: Sequence[Any]) -> Tensor:
    """`values` for one input; a free dimension takes their number."""
    shape = shape_of(spec, max_batch_size, len(values))
    return Tensor(spec.name, spec.datatype, shape, encode(spec.datatype, values))


def random_values(datatype: str, size: int, rng: np.random.Generator) -> Any:
    """Values that any model can take: floats in [0, 1), small integers, short words."""
    if datatype == "BYTES":
        return [f"word{number}" for number in rng.integers(0, 1000, size)]
    if datatype == "BOOL":
        return rng.integers(0, 2, size)
    if datatype.startswith(("INT", "UINT")):
        return rng.integers(0, 100, size)
    return rng.random(size)


def random_tensor(spec: TensorSpec, max_batch_size: int, rng: np.random.Generator) -> Tensor:
    """Seeded values; free dimensions are 1."""
    shape = shape_of(spec, max_batch_size)
    values = random_values(spec.datatype, int(np.prod(shape, dtype=np.int64)), rng)
    return Tensor(spec.name, spec.datatype, shape, encode(spec.datatype, values))
