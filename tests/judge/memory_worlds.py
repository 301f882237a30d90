"""Versions whose need of memory is known, under the measurements of long-context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

GIB = 2.0**30
RAMP = (0.5, 0.75, 0.9, 1.0, 1.1)


@dataclass
class Version:
    """needs(context, batch) in bytes, of each of `capacity`'s devices its factor; `noise`: sd of a measured peak."""

    needs: Callable[[float, int], float]
    capacity: dict[str, float]
    noise: float = 0.0
    seed: int = 1
    factors: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def point(self, phase: str, context: int, batch: int, repeat: int = 0) -> dict[str, Any]:
        need = self.needs(context, batch)
        short = any(need * self.factors.get(name, 1.0) > size for name, size in self.capacity.items())
        peak = {
            name: need * self.factors.get(name, 1.0) + float(self._rng.normal(0.0, self.noise)) if self.noise else
            need * self.factors.get(name, 1.0)
            for name in self.capacity
        }  # fmt: skip
        found = {
            "phase": phase, "repeat": repeat, "context": context, "tokens": context, "batch": batch, "seconds": 1.0,
            "outcome": "out of memory" if short else "ok", "error": "CUDA out of memory" if short else "",
            "peak": peak, "polls": 9,
        }  # fmt: skip
        return {**found, "recovered_s": 0.4} if short else found


def llama(weights: float, per_token: float, per_row: float = 0.0, moment: float = 0.0) -> Callable[[float, int], float]:
    """Weights, keys and values, what a sequence needs, and what one token of a sequence needs for a moment."""
    return lambda context, batch: weights + per_token * context * batch + per_row * batch + moment * context


def measure(
    version: Version, goal: tuple[int, int] = (8192, 4), contexts: Sequence[int] = (1024, 2048, 4096, 6144),
    batches: Sequence[int] = (1, 2, 4), repeats: int = 3, edge: float = 0.05,
) -> dict[str, Any]:  # fmt: skip
    """An arm's facts, as the run would have made them (the edge without the search for it)."""
    points = [version.point("ladder", context, batch) for context in contexts for batch in batches]
    for repeat in range(repeats):
        for share in RAMP:
            points.append(version.point("ramp", round(share * goal[0]), goal[1], repeat))
            if points[-1]["outcome"] != "ok":
                break
    if edge:
        end = next(
            (context for context in range(64, 2 * goal[0], 64)
             if version.point("edge", context, goal[1])["outcome"] != "ok"),
            None,
        )  # fmt: skip
        points += [version.point("edge", context, goal[1]) for context in (end - 64, end)] if end else []
    return {
        "model": "llm", "version": 2, "kv_bits": 16, "load_error": "", "points": points, "max_batch_size": 4,
        "lengths": {"added": 0.0, "per_word": 1.0, "counted": True},
        "watched": {
            "what": "GPU memory", "of": "GPU memory", "source": "nvml", "metric": "gpu.memory.used",
            "capacity": version.capacity, "preallocated": False,
        },
    }  # fmt: skip


def observed(
    candidate: dict[str, Any], baseline: dict[str, Any] | None = None, goal: tuple[int, int] = (8192, 4),
    contexts: Sequence[int] = (1024, 2048, 4096, 6144), batches: Sequence[int] = (1, 2, 4), **more: Any,
) -> dict[str, Any]:  # fmt: skip
    return {
        "format": 1, "kind": "long-context", "finished": True, "goal": {"context": goal[0], "batch": goal[1]},
        "contexts": list(contexts), "batches": list(batches), "ramp": list(RAMP), "repeats": 3, "max_tokens": 8,
        "limits": {"memory": {"limit": 0.92, "limit_kind": "share"}, "margin": None, "edge": 0.05}, "every_s": 0.05,
        "on_oom": False, "action": None, "notes": [],
        "arms": {**({"baseline": baseline} if baseline else {}), "candidate": candidate}, **more,
    }  # fmt: skip
