"""How long a decode step takes by batch size, FP8 against FP16, beside what arithmetic and bandwidth allow.

At the engine: no server, no load, a short context. What the GPU can do is measured in the same process: the rate at
which it copies, and at which it multiplies in FP16 and in FP8.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.campaigns.gpu.steps.place import Found, Place, main

if TYPE_CHECKING:
    from harness.embedded.llama.graphs import Steps
    from harness.embedded.llama.shapes import Shape
    from harness.embedded.llama.transformer import Transformer

SHAPES: dict[str, dict[str, Any]] = {
    "SmolLM2": {"shape": "smollm2"},
    "SmolLM2, 8 times as wide, as served": {"shape": "smollm2", "widened": 8},
    "7B": {"shape": "7b"},
}
REHEARSED: dict[str, dict[str, Any]] = {"tiny": {"shape": "tiny"}}
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHORT, CAPACITY = 64, 512
"""Tokens that each sequence has when it is timed, and that it has room for."""
PROMPT = 2048
FREE = 0.7
"""Of the memory that is free, the cache may take so much."""
GROUPS, EACH = 9, 10
"""A time is the median of GROUPS, each the mean of EACH."""


def measure(place: Place) -> Found:
    clock = Clock(place.device)
    found: Found = {
        "short": SHORT, "prompt": PROMPT, "limits": limits(place, clock), "steps": [], "prefill": [], "weights": [],
    }  # fmt: skip
    place.save(found)
    for name, shape in (REHEARSED if place.rehearsed else SHAPES).items():
        for weights in ("fp16", "fp8"):
            _one(place, clock, name, {**shape, "weights": weights}, found)
            place.save(found)
    return found


class Clock:
    """Milliseconds of the device's own clock; on a CPU of the machine's."""

    def __init__(self, device: str) -> None:
        import torch

        self._torch, self._gpu = torch, device != "cpu"
        self.groups, self.each = (GROUPS, EACH) if self._gpu else (3, 2)

    def ms(self, work: Callable[[], Any], each: int = 0) -> float:
        """Of one call, among many in a row: the median of groups."""
        each = each or self.each
        work()
        return statistics.median(self._group(work, each) for _ in range(self.groups))

    def wall_ms(self, work: Callable[[], Any]) -> float:
        """Of one call that ends with a value on the host."""
        work()
        took = []
        for _ in range(self.groups * self.each):
            began = time.perf_counter()
            work()
            took.append(1e3 * (time.perf_counter() - began))
        return statistics.median(took)

    def _group(self, work: Callable[[], Any], each: int) -> float:
        if not self._gpu:
            began = time.perf_counter()
            for _ in range(each):
                work()
            return 1e3 * (time.perf_counter() - began) / each
        begin, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(each):
            work()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / each


def limits(place: Place, clock: Clock) -> Found:
    """bytes/s of a copy (read and written), and multiplications and additions a second by width and type."""
    import torch

    size = 1 << (24 if place.rehearsed else 32)
    given = torch.ones(size, dtype=torch.uint8, device=place.device)
    taken = torch.empty_like(given)
    found: Found = {"copy_bytes_s": 2 * size / clock.ms(partial(taken.copy_, given)) * 1e3, "rates": []}
    del given, taken  # gigabytes
    for width in (128, 256) if place.rehearsed else (4096, 8192):
        for kind, work in _products(torch, width, place.device):
            try:
                ms = clock.ms(work)
            except RuntimeError as error:  # a kind that this PyTorch has not for this device
                found["rates"].append({"width": width, "kind": kind, "problem": str(error).splitlines()[0]})
                continue
            found["rates"].append({"width": width, "kind": kind, "ms": ms, "flops_s": 2 * width**3 / ms * 1e3})
    return found


def _products(torch: Any, width: int, device: str) -> Iterable[tuple[str, Callable[[], Any]]]:
    """FP8 with a scale for each row of both, as the models have it, and with one for each matrix."""
    a, b = (torch.randn(width, width, device=device, dtype=torch.float16) * width**-0.5 for _ in range(2))
    yield "fp16", lambda: torch.matmul(a, b.t())
    rows, columns = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn)
    row_scales, scale = torch.ones(width, 1, device=device), torch.ones((), device=device)

    def scaled(one: Any, other: Any) -> Any:
        return torch._scaled_mm(
            rows, columns.t(), scale_a=one, scale_b=other, out_dtype=torch.float16, use_fast_accum=True
        )

    yield "fp8", partial(scaled, row_scales, row_scales.t())
    yield "fp8, one scale", partial(scaled, scale, scale)


def _one(place: Place, clock: Clock, name: str, settings: dict[str, Any], found: Found) -> None:
    import torch

    from harness.embedded.llama.graphs import Steps
    from harness.embedded.llama.loading import load
    from harness.embedded.llama.settings import settle_llama

    weights, about = settings["weights"], {"shape": name, "weights": settings["weights"]}
    transformer = load(settle_llama(settings), place.device)
    held = _allocated(torch)
    batches = (1, 2) if place.rehearsed else _that_fit(torch, transformer.shape)
    cache = transformer.cache(batches[-1], CAPACITY)
    began = time.perf_counter()
    steps = Steps(transformer, cache)
    found["weights"].append({**about, "recording_s": time.perf_counter() - began, "bytes": held})
    for batch in batches:
        times = _step_times(clock, steps, cache, batch)
        bound = bound_ms(transformer.shape, weights, batch, SHORT, found["limits"])
        found["steps"].append({**about, "batch": batch, **times, "bound_ms": bound})
    del steps, cache
    found["prefill"].append({**about, **_prefill(place, clock, transformer)})
    del transformer
    if not place.rehearsed:
        torch.cuda.empty_cache()


def _allocated(torch: Any) -> int:
    return int(torch.cuda.memory_allocated()) if torch.cuda.is_available() else 0


def _that_fit(torch: Any, shape: Shape) -> tuple[int, ...]:
    free, _ = torch.cuda.mem_get_info()
    return tuple(batch for batch in BATCHES if batch * CAPACITY * shape.kv_bytes(16) <= FREE * free)


def _step_times(clock: Clock, steps: Steps, cache: Any, batch: int) -> Found:
    """`ms`: of steps in a row, as given by the host; `graph_ms`: of the graph alone, where there is one; `wall_ms`: of
    a step whose tokens are read back, as the engine does before the next.
    """
    rows = list(range(batch))

    def step() -> Any:
        for row in rows:
            cache.lengths[row] = SHORT
        return steps.run(rows, rows)

    import torch

    replay = steps._replays.get(batch)  # what `run` uses: nobody else needs it by itself
    given = torch.tensor([[1] * batch, rows, [SHORT] * batch], device=cache.layers[0][0].device)
    return {
        "ms": clock.ms(step),
        "wall_ms": clock.wall_ms(lambda: step().argmax(1).tolist()),
        "graph_ms": clock.ms(partial(replay, given)) if replay else None,
    }


def _prefill(place: Place, clock: Clock, transformer: Transformer) -> Found:
    tokens = 128 if place.rehearsed else PROMPT
    cache = transformer.cache(1, tokens)

    def once() -> Any:
        cache.lengths[0] = 0
        return transformer.prefill([1] * tokens, cache, 0)

    ms = clock.ms(once, each=2)
    return {"tokens": tokens, "ms": ms, "tokens_s": tokens / ms * 1e3}


def bound_ms(shape: Shape, weights: str, batch: int, length: int, found: Found) -> float:
    """No step can take less: what it has to read at the measured rate of a copy, or what it has to compute at the
    measured rates (the best of each type), whichever takes longer. The embedding is FP16 in every build.
    """
    rate = {
        kind: max(r["flops_s"] for r in found["rates"] if r["kind"].startswith(kind) and "flops_s" in r)
        for kind in ("fp16", "fp8")
    }
    head = 2 * batch * shape.vocabulary * shape.width
    layers = shape.step_flops(batch) - head
    arithmetic_s = layers / rate["fp16" if weights == "fp16" else "fp8"] + head / rate["fp16"]
    bits = 16 if weights == "fp16" else 8
    reading_s = shape.step_bytes(bits, 16, batch, length) / found["copy_bytes_s"]
    return 1e3 * max(arithmetic_s, reading_s)


def lines(found: Found) -> list[str]:
    limits = found["limits"]
    measured = [r for r in limits["rates"] if "flops_s" in r]
    rates = ", ".join(
        f"{r['kind'].replace('fp', 'FP')} {r['flops_s'] / 1e12:.4g} TFLOP/s ({r['width']}³)" for r in measured
    )
    text = [
        f"Measured in the same run: a copy moves {limits['copy_bytes_s'] / 1e12:.3g} TB/s (read and written); "
        f"matrices are multiplied at {rates}. The bound of a step is what it has to read at the rate of the copy, or "
        "what it has to compute at the best rate of its type, whichever takes longer. "
        f"{found['short']} tokens a sequence; times are medians by the GPU's own clock.",
    ]
    for shape in dict.fromkeys(row["shape"] for row in found["steps"]):
        text += ["", f"{shape}: milliseconds of a step", "", *_table(found, shape)]
    text += ["", f"Prefill of {found['prompt']} tokens at once, tokens a second:", ""]
    text += ["| model | weights | tokens/s |", "|---|---|--:|"]
    text += [f"| {row['shape']} | {row['weights']} | {row['tokens_s']:,.0f} |" for row in found["prefill"]]
    return text


def _table(found: Found, shape: str) -> list[str]:
    by = {(row["weights"], row["batch"]): row for row in found["steps"] if row["shape"] == shape}
    text = [
        "| batch | FP16 | its bound | FP8 | its bound | FP8 / FP16 | by the bounds | tokens read back: FP16 | FP8 |",
        "|--:|" + "--:|" * 8,
    ]
    for batch in dict.fromkeys(batch for _, batch in by):
        fp16, fp8 = by.get(("fp16", batch)), by.get(("fp8", batch))
        if fp16 is None or fp8 is None:
            continue
        ratio, ideal = fp8["ms"] / fp16["ms"], fp8["bound_ms"] / fp16["bound_ms"]
        text.append(
            f"| {batch} | {fp16['ms']:.3f} | {fp16['bound_ms']:.3f} | {fp8['ms']:.3f} | {fp8['bound_ms']:.3f} | "
            f"{ratio:.2f} | {ideal:.2f} | {fp16['wall_ms']:.3f} | {fp8['wall_ms']:.3f} |"
        )
    return text


if __name__ == "__main__":
    main(measure)
