"""What a version of `llama` or `llama_batched` can be told. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from harness.embedded.llama.shapes import SHAPES
from harness.errors import UsageError

SMOLLM2 = "smollm2"
CHOICES = {
    "shape": (SMOLLM2, *SHAPES),
    "weights": ("fp16", "fp8", "fp8-shifted"),
    "kv": ("fp16", "fp8", "fp32"),
    "fault": ("", "slow", "erring"),
}


@dataclass(frozen=True, slots=True)
class LlamaSettings:
    """The settings of one version.

    shape     smollm2 (real weights), or a shape with seeded random weights (shapes.py): its answers are nonsense
    widened   so many times as wide, each adding its share: the same function, and more work by the square of it; 1, 2,
              4, ... (a power of two divides exactly)
    weights   fp16; fp8: e4m3, activations too; fp8-shifted: one layer's scales are off by a row (a loader's bug)
    kv        fp16, fp8 (e4m3) or fp32: in what keys and values are kept
    slots     `llama` only: sequences at the same time; their keys and values are there from the start
    context   tokens a sequence; 0: as many as the shape has, at most 8192
    fault     slow: a step takes 30 % longer; erring: 30 % of the requests fail
    seed      of random weights
    """

    shape: str = "tiny"
    widened: int = 1
    weights: str = "fp16"
    kv: str = "fp16"
    slots: int = 8
    context: int = 0
    fault: str = ""
    seed: int = 1

    @property
    def kv_bits(self) -> int:
        return int(self.kv.removeprefix("fp"))


BUILDS: dict[str, dict[str, Any]] = {
    "fp16": {},
    "same": {},
    "fp8": {"weights": "fp8"},
    "fp8-shifted": {"weights": "fp8-shifted"},
    "slow": {"fault": "slow"},
    "erring": {"fault": "erring"},
    "kv8": {"kv": "fp8"},
}


def settle_llama(build: str | Mapping[str, Any], **changes: Any) -> LlamaSettings:
    """A build's settings with `changes` on top. UsageError names an unknown key or a value that cannot be."""
    wanted = {**(BUILDS[build] if isinstance(build, str) else build), **changes}
    known = {field.name for field in fields(LlamaSettings)}
    for key, value in wanted.items():
        if key not in known:
            raise UsageError(f"unknown setting {key!r} of llama: known are {', '.join(sorted(known))}")
        if key in CHOICES and value not in CHOICES[key]:
            raise _wrong(key, f"one of {', '.join(filter(None, CHOICES[key]))}", value)
        if key in ("slots", "context", "seed"):
            least = 1 if key == "slots" else 0
            if type(value) is not int or value < least:
                raise _wrong(key, f"a whole number from {least}", value)
        if key == "widened" and (type(value) is not int or value < 1 or value & (value - 1)):
            raise _wrong(key, "1, 2, 4 or another power of two", value)
    return LlamaSettings(**wanted)


def _wrong(key: str, expected: str, value: Any) -> UsageError:
    return UsageError(f"setting {key!r} of llama is {expected}, not {value!r}")
