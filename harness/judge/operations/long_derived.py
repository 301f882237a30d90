"""What a report shows of a version of long-context, reckoned once: cells, edges, headroom, and estimates. Pure.

Estimates are of what was not built: they take the fit's own parts, keys and values (what grows with every token of the
batch), weights (what is always there), the rest (what a computation needs for a moment), and scale them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.judge.operations.long_fits import LongFits, limit_share, long_fits, proven, share_of
from harness.judge.operations.long_margin import taken_by_others
from harness.judge.operations.long_table import largest_safe, long_table

Facts = Mapping[str, Any]
GPUS = ("nvml", "dcgm", "triton")
PARALLEL = (2, 4)
"""Of the estimates: over how many GPUs the weights and the heads are spread."""


def long_derived(observations: Facts, name: str) -> dict[str, Any]:
    """JSON-able. Shares are of the capacity, contexts in tokens; None where nothing is foretold or nothing ends."""
    arm, goal, limit = observations["arms"][name], observations["goal"], limit_share(observations, name)
    fits, cells = long_fits(observations, name), long_table(observations, name)
    most = max(cell.batch for cell in cells)
    at_goal = [
        share
        for point in arm["points"]
        if proven(point) >= point["context"] == goal["context"] and point["batch"] == goal["batch"]
        and (share := share_of(arm, point)) is not None
    ]  # fmt: skip
    contexts = list(dict.fromkeys(cell.context for cell in cells))
    return {
        "limit": limit,
        "cells": [asdict(cell) for cell in cells],
        "largest": [
            {
                "context": context,
                "verified": largest_safe(cells, context),
                "foretold": fits.largest(context, limit, most) if fits.known else None,
            }
            for context in contexts
        ],
        "edges": [
            {"batch": batch, "edge": _finite(fits.edge(batch)), "safe": _finite(fits.safe(batch, limit))}
            for batch in dict.fromkeys(cell.batch for cell in cells)
            if fits.known
        ],
        "headroom": {
            "measured": 1 - max(at_goal) if at_goal else None,
            "foretold": 1 - fits.upper(goal["context"], goal["batch"]) if fits.known else None,
        },
        "estimates": _estimates(arm, fits, goal["context"], goal["batch"]) if fits.known else [],
    }


def _finite(context: float) -> float | None:
    return context if context < 1e9 else None


def _estimates(arm: Facts, fits: LongFits, context: int, batch: int) -> list[dict[str, Any]]:
    """Of the goal: with keys and values in 8 bits, and spread over several GPUs."""
    bits, watched = arm["kv_bits"], arm["watched"]
    found = []
    if bits > 8:
        found.append((f"KV cache in 8 bits instead of {bits}", _scaled(arm, fits, context, batch, kv=8 / bits)))
    if watched["source"] in GPUS:
        for gpus in PARALLEL:
            share = _scaled(arm, fits, context, batch, kv=1 / gpus, weights=1 / gpus)
            found.append((f"tensor parallelism over {gpus} GPUs, of each", share))
    return [{"what": what, "share": share} for what, share in found]


def _scaled(arm: Facts, fits: LongFits, context: int, batch: int, *, kv: float, weights: float = 1.0) -> float:
    """The expected peak of the fullest device. What others hold there is none of the version's weights."""
    shares = []
    for device, (one, capacity) in fits.by_device.items():
        constant, tokens = float(one.coefficients[0]), one.per_token(batch) * context
        others = min(taken_by_others(arm, device), constant)
        rest = one.peak(context, batch) - constant - tokens
        shares.append((others + (constant - others) * weights + tokens * kv + rest) / capacity)
    return max(shares)
