"""What a `tiny` version can be told to do. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from harness.errors import UsageError


@dataclass(frozen=True, slots=True)
class TinySettings:
    """The settings of one `tiny` version.

    delay_ms     time a request takes
    jitter_ms    mean of an exponential extra time, drawn from `seed`
    fail         share of requests that fail, 0 to 1, drawn from `seed`
    offset       added to every value: a wrong output
    load_s       time that loading takes
    load_fails   loading raises
    hold_mb      memory that a request takes and gives back (MiB): it is really allocated
    heavy        share of requests that take it, 0 to 1, drawn from `seed`
    limit_mb     a hard limit of the instance: so much more than it has once it is loaded (MiB; 0: none). What lies
                 beyond is refused by the kernel, the request fails with NumPy's own error, and the instance serves on
    crash        the instance that gets the next request ends; Triton 2.51 does not start it again: until the
                 version is loaded anew, every request that it hands to that instance fails after a second
    """

    delay_ms: float = 5.0
    jitter_ms: float = 0.0
    fail: float = 0.0
    offset: float = 0.0
    load_s: float = 0.0
    load_fails: bool = False
    hold_mb: int = 0
    heavy: float = 1.0
    limit_mb: int = 0
    crash: bool = False
    seed: int = 1


# `fp16` is the reference; the names are those of the language model.
BUILDS: dict[str, dict[str, Any]] = {
    "fp16": {},
    "same": {},
    "slow": {"delay_ms": 6.5},
    "erring": {"fail": 0.3},
}


def settle(build: str | Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> TinySettings:
    """A build's settings with `changes` on top. UsageError names an unknown key or a value out of range."""
    wanted = {**(BUILDS[build] if isinstance(build, str) else build), **(changes or {})}
    known = {field.name for field in fields(TinySettings)}
    for key, value in wanted.items():
        if key not in known:
            raise UsageError(f"unknown setting {key!r} of tiny: known are {', '.join(sorted(known))}")
        wants_bool = key in ("load_fails", "crash")
        if isinstance(value, bool) != wants_bool or not isinstance(value, int | float):
            raise UsageError(
                f"setting {key!r} of tiny is {'true or false' if wants_bool else 'a number'}, not {value!r}"
            )
        if key not in ("offset", "seed") and value < 0:
            raise UsageError(f"setting {key!r} of tiny cannot be negative: {value!r}")
        if key in ("hold_mb", "limit_mb") and not isinstance(value, int):
            raise UsageError(f"setting {key!r} of tiny is a whole number of MiB, not {value!r}")
        if key in ("fail", "heavy") and value > 1:
            raise UsageError(f"setting {key!r} of tiny is a share from 0 to 1, not {value!r}")
    return TinySettings(**wanted)
