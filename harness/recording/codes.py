"""Times of many requests in two bytes each: bins of 0.1 %, read off the bits of a float64.

The exponent and the first ten digits of the mantissa of a number of nanoseconds (from 1 up) are its code less one, so a
bin is between 1/1024 and 1/2048 of its value wide, and no logarithm is taken. 0 is "not known". Lengths in tokens are
coded plus one, so that 0 has a code, and are exact up to 2046.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint16]
DIGITS = 10
_SHIFT = 52 - DIGITS
_FIRST = 1023 << DIGITS  # of 1.0
UNKNOWN = 0
CODES = 1 << 16


def code_of(values: Ints | Floats, unknown: Bools) -> Codes:
    """Of each value, at least 1; those below count as 1."""
    bits = np.maximum(values, 1.0).view(np.int64)
    codes = ((bits >> _SHIFT) - (_FIRST - 1)).astype(np.uint16)
    codes[unknown] = UNKNOWN
    return codes


def _edges() -> Floats:
    """Where each bin begins, from code 1 on, and where the last one that an int64 reaches ends."""
    codes = np.arange(_FIRST, _FIRST + (63 << DIGITS) + 1, dtype=np.int64)
    return np.asarray((codes << _SHIFT).view(np.float64), np.float64)


def _decoded(edges: Floats) -> tuple[Floats, Floats]:
    seconds, tokens = np.zeros(CODES), np.zeros(CODES)
    middle = np.sqrt(edges[:-1] * edges[1:])
    seconds[1 : len(edges)] = middle * 1e-9
    tokens[1 : len(edges)] = np.where(edges[:-1] < 2 << DIGITS, edges[:-1], middle) - 1
    return seconds, tokens


SECONDS, TOKENS = _decoded(_edges())
"""What each code stands for: the middle of its bin, on the scale of ln."""


class Thousandths:
    """The bins of codes. They are so narrow that their middle will do."""

    half = math.log1p(2.0**-DIGITS) / 2
    summed = False
    name = "bins of 0.1 %"

    def spread(self, bins: npt.NDArray[np.int32], counts: Ints) -> tuple[Ints, Floats, Floats]:
        return np.arange(len(bins)), SECONDS[bins], counts.astype(np.float64)


THOUSANDTHS = Thousandths()
