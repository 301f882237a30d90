"""What a `smollm2_batched` version can be told. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import UsageError
from harness.units import parse_bytes

WEIGHTS = ("fp16", "fp8")
CACHES = ("fp32", "fp16")
LAYERS = 30


@dataclass(frozen=True, slots=True)
class BatchedSettings:
    """The settings of one version.

    weights   fp16 or fp8 (see quantise.py)
    kv        fp32 or fp16: in what the keys and values are kept
    layers    how many of the 30 are used: fewer need less time and memory, and answer nonsense
    memory    bytes that the instance may allocate, weights included (RLIMIT_DATA, set once it is loaded); 0: no limit
    """

    weights: str = "fp16"
    kv: str = "fp32"
    layers: int = LAYERS
    memory: int = 0

    @property
    def kv_bits(self) -> int:
        return int(self.kv.removeprefix("fp"))


BUILDS: dict[str, dict[str, Any]] = {"fp16": {}, "fp8": {"weights": "fp8"}, "kv16": {"kv": "fp16"}}


def settle_batched(build: str | Mapping[str, Any]) -> BatchedSettings:
    """A build's settings. `memory` is written as 900MiB. UsageError names an unknown key or a value that cannot be."""
    wanted = dict(BUILDS[build] if isinstance(build, str) else build)
    choices = {"weights": WEIGHTS, "kv": CACHES}
    for key, value in wanted.items():
        if key in choices and value not in choices[key]:
            raise _wrong(key, f"one of {', '.join(choices[key])}", value)
        if key == "layers" and (type(value) is not int or not 1 <= value <= LAYERS):
            raise _wrong(key, f"a whole number from 1 to {LAYERS}", value)
        if key == "memory":
            try:
                wanted[key] = int(parse_bytes(value))
            except ValueError:
                raise _wrong(key, "a size such as 900MiB", value) from None
        if key not in (*choices, "layers", "memory"):
            raise UsageError(f"unknown setting {key!r} of smollm2_batched: known are kv, layers, memory, weights")
    return BatchedSettings(**wanted)


def _wrong(key: str, expected: str, value: Any) -> UsageError:
    return UsageError(f"setting {key!r} of smollm2_batched is {expected}, not {value!r}")
