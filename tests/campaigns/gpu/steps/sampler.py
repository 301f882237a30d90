"""What it costs the requests that the GPU is read beside them: p50 with and without, in alternation.

One server; blocks of one closed loop in the order A-B-B-A, again and again. In B the readers of a run are there: the
process that reads the GPU every 100 ms; host, processes and page every second.
Neighbours are a pair; the mean of the logarithms of their ratios has an interval by Student's t.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.campaigns.gpu.steps.place import Found, Place, main

if TYPE_CHECKING:
    from harness.embedded import EmbeddedServer

BLOCKS, SECONDS = 16, 1.5
ORDER = (False, True, True, False)
LOADS = {"smollm2": "fp16", "tiny": {"delay_ms": 0.0}}


def measure(place: Place) -> Found:
    from tests.campaigns.gpu.steps.serving import serving

    found: Found = {"loads": {}, "seconds": SECONDS}
    with serving(place, {model: {1: build} for model, build in LOADS.items()}) as server:
        for model in LOADS:
            found["loads"][model] = _alternating(place, server, model)
            place.save(found)
    return found


def _alternating(place: Place, server: EmbeddedServer, model: str) -> Found:
    from harness.recording import read_table
    from tests.campaigns.gpu.steps.serving import Load, reading, summary, times

    blocks, seconds = (4, 5.0) if place.rehearsed else (BLOCKS, SECONDS)
    order = [ORDER[number % len(ORDER)] for number in range(blocks)]
    polls: list[int] = []
    with Load(server, place.folder / f"load-{model}", model, 1) as load:
        load.run(seconds)  # the first is counted nowhere
        for number, read in enumerate(order):
            folder = place.folder / f"readings-{model}-{number}"
            sampler = reading(server, folder)
            sampler.start()
            if not read:  # a block without one follows the same pause: a GPU that rests is slower afterwards
                sampler.stop()
            load.run(seconds)
            if read:
                sampler.stop()
                memory = summary(read_table(folder, "readings"), ("gpu.memory.used",))
                polls.append(memory.get("gpu.memory.used", {}).get("polls", 0))
        samples = load.stop()
    rows = [{"read": read, **times(samples, number + 1)} for number, read in enumerate(order)]
    key = "latency_ms"
    return {"blocks": rows, "polls": polls, "ratio": ratio([row[key] for row in rows], order)}


def ratio(values: Sequence[float], read: Sequence[bool]) -> Found:
    """Of neighbours, one of each kind: read / not read, with a 95 % interval."""
    pairs = zip(values[::2], values[1::2], read[::2], strict=True)
    logs = [math.log(second / first) * (-1 if first_read else 1) for first, second, first_read in pairs]
    centre = statistics.fmean(logs)
    half = _t95(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    low, high = (math.exp(centre + sign * half) if math.isfinite(half) else None for sign in (-1, 1))
    return {"ratio": math.exp(centre), "low": low, "high": high, "pairs": len(logs)}


def _t95(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def lines(found: Found) -> list[str]:
    text = [
        "| load | blocks | requests a block | p50 without | p50 with | with / without | 95 % interval |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for model, load in found["loads"].items():
        p50 = [_p50(load["blocks"], read) for read in (False, True)]
        requests = statistics.median(row["answered"] for row in load["blocks"])
        text.append(
            f"| `{model}` | {len(load['blocks'])} | {requests:.0f} | {p50[0]:.3f} ms | {p50[1]:.3f} ms | "
            f"{load['ratio']['ratio']:.4f} | {_interval(load['ratio'])} |"
        )
    return text


def _p50(blocks: Sequence[Found], read: bool) -> float:
    return statistics.median(row["latency_ms"] for row in blocks if row["read"] is read)


def _interval(found: dict[str, Any]) -> str:
    return "none" if found["low"] is None else f"{found['low']:.4f} to {found['high']:.4f}"


if __name__ == "__main__":
    main(measure)
