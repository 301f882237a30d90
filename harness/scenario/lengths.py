"""Distributions of lengths in tokens: 512, uniform 100 1000, normal 512 50, lognormal 512 0.4."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from harness.units import found

MOST_TOKENS = 1_000_000
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
PATTERN = rf"^(?:uniform|normal|lognormal) +{_NUMBER} +{_NUMBER}$"


@dataclass(frozen=True, slots=True)
class Lengths:
    """`kind` and what it takes: fixed (`first`), uniform (from `first` to `second`, both included), normal (mean and
    standard deviation), lognormal (median, and standard deviation of the logarithm).
    """

    kind: Literal["fixed", "uniform", "normal", "lognormal"]
    first: float
    second: float = 0.0

    def draw(self, count: int, seed: int) -> list[int]:
        """`count` lengths, the same for the same seed."""
        rng = random.Random(f"lengths {seed}")
        # random() is the one draw that Python promises to keep as it is.
        lengths: list[int] = self.of(np.array([rng.random() for _ in range(count)])).tolist()
        return lengths

    def of(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """A length from 1 up for each number in [0, 1), by inversion: the same numbers give the same lengths."""
        match self.kind:
            case "fixed":
                lengths = np.full(len(uniform), self.first)
            case "uniform":
                lengths = self.first + np.floor(uniform * (self.second - self.first + 1))
            case "normal":
                lengths = self.first + self.second * _standard(uniform)
            case "lognormal":
                lengths = self.first * np.exp(self.second * _standard(uniform))
        whole: NDArray[np.int64] = np.clip(np.rint(lengths), 1, MOST_TOKENS).astype(np.int64)
        return whole

    def mean(self) -> float:
        match self.kind:
            case "uniform":
                return (self.first + self.second) / 2
            case "lognormal":
                return float(self.first * np.exp(self.second**2 / 2))
        return self.first


def parse_lengths(value: Any) -> Lengths:
    """Raises ValueError "expected ..., found ..."."""
    expected = "expected tokens such as 512, uniform 100 1000, normal 512 50 or lognormal 512 0.4"
    if isinstance(value, int) and not isinstance(value, bool):
        lengths = Lengths("fixed", value)
    elif isinstance(value, str) and re.fullmatch(PATTERN, value):
        kind, first, second = value.split()
        lengths = Lengths(kind, float(first), float(second))  # type: ignore[arg-type]
    else:
        raise ValueError(f"{expected}, found {found(value)}")
    largest = max(lengths.first, lengths.second) if lengths.kind == "uniform" else lengths.first
    if not 1 <= lengths.first <= largest <= MOST_TOKENS:
        raise ValueError(f"{expected} (from 1 to {MOST_TOKENS}), found {found(value)}")
    if lengths.kind == "uniform" and lengths.second < lengths.first:
        raise ValueError(f"{expected} (the smaller one first), found {found(value)}")
    return lengths


def format_lengths(lengths: Lengths) -> int | str:
    if lengths.kind == "fixed":
        return int(lengths.first)
    return f"{lengths.kind} {lengths.first:.12g} {lengths.second:.12g}"


def _standard(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a standard normal distribution; the middle of the draw's step, so that 0 is no infinity."""
    normal: NDArray[np.float64] = ndtri(uniform + 2.0**-54)
    return normal
