"""A GGUF file's metadata and tensors.

The header is read here (the package's own reader takes 2.5 s for the 98,000 strings of the vocabulary, this
one 0.1 s); block sizes and dequantisation are the package `gguf`'s. Format: ggml/docs/gguf.md, version 3.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9


class GgufFile:
    """`metadata`: key to value. `shapes`: tensor name to shape, slowest dimension first: rows are outputs."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._at = 0
        if self._data[:4] != b"GGUF":
            raise ValueError(f"{path} is not a GGUF file")
        self._at = 4
        version, tensors, keys = self._number("<I"), self._number("<Q"), self._number("<Q")
        if version != 3:
            raise ValueError(f"{path} is GGUF version {version}, not 3")
        self.metadata: dict[str, Any] = {self._string(): self._value(self._number("<I")) for _ in range(keys)}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, tuple[int, int]] = {}
        for _ in range(tensors):
            name = self._string()
            dims = [self._number("<Q") for _ in range(self._number("<I"))]
            kind, offset = self._number("<I"), self._number("<Q")
            self.shapes[name] = tuple(reversed(dims))
            self._places[name] = (kind, offset)
        align = self.metadata.get("general.alignment", 32)
        self._start = -(-self._at // align) * align

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The tensor dequantised to float32, in its shape; a fresh array."""
        import gguf

        kind, offset = self._places[name]
        shape = self.shapes[name]
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
        row_bytes = shape[-1] // block * size
        rows = int(np.prod(shape[:-1]))
        raw = np.frombuffer(self._data, np.uint8, rows * row_bytes, self._start + offset).reshape(rows, row_bytes)
        values = gguf.dequantize(raw, gguf.GGMLQuantizationType(kind))
        return np.array(values, np.float32).reshape(shape)

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def _string(self) -> str:
        length = self._number("<Q")
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            item, count = self._number("<I"), self._number("<Q")
            return [self._value(item) for _ in range(count)]
        return self._number(_SCALARS[kind])
