"""long-context at the GPU's own end, in minutes: another process holds most of the memory, so that it comes early.

A 7B shape with random weights, batch 16, one version alone: keys and values in FP16 (512 KiB a token), or in FP8
(half). What is left is given so that memory ends at about EDGE tokens a sequence in FP16. The memory that the other
process holds never changes; what runs out, and when, is the GPU's and PyTorch's own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.campaigns.gpu.steps.canary import run, words
from tests.campaigns.gpu.steps.place import Found, Place, main
from tests.campaigns.gpu.steps.scenarios import findings

BATCH, EDGE = 16, 3072
BESIDE_BYTES = 2 << 30
"""CUDA's context, workspaces, and what the prefill needs for a moment."""
HELD_S = 120.0
SCENARIO = """\
kind: long-context
name: {name}
description: a 7B shape, {kv} cache, on what another process leaves of the GPU
target: {{server: embedded}}
candidate: {{model: {model}, version: 1, build: {build}, kv_bits: {bits}}}
goal: {{context: {goal}, batch: {batch}}}
contexts: {contexts}
batches: {batches}
max_tokens: 4
repeats: 1
limits: {{memory: 99.5%, edge: {edge}}}
"""
HOLDER = """
import sys, torch
held = torch.empty(int(sys.argv[1]), dtype=torch.uint8, device="cuda").fill_(1)
torch.cuda.synchronize()
print("held", flush=True)
sys.stdin.read()
"""


def measure(place: Place) -> Found:
    kv = place.name.removeprefix("long-")
    path = place.folder / f"{place.name}.yaml"
    path.write_text(scenario(place.name, kv, rehearsed=place.rehearsed))
    held = 0 if place.rehearsed else to_hold()
    with _holding(held):
        return {"kv": kv, "held_bytes": held, "text": path.read_text(), **run(place, str(path), [], place.name)}


def scenario(name: str, kv: str, *, rehearsed: bool = False) -> str:
    if rehearsed:  # an instance with a limit of its own; no machine's memory is really used up
        return SCENARIO.format(
            name=name, kv=kv, model="smollm2_batched", bits=32, batch=4, goal=232, contexts=[64, 112, 160, 224],
            batches=[1, 2], build="{layers: 10, memory: 406MiB}", edge="20%",
        )  # fmt: skip
    times = {"fp16": 1.0, "fp8": 2.0}[kv]
    goal = round(EDGE * times * 0.85)
    contexts = [2048, round((2048 + goal) / 2), goal]
    return SCENARIO.format(
        name=name, kv=kv, model="llama_batched", bits=int(kv.removeprefix("fp")), batch=BATCH, goal=goal,
        contexts=contexts, batches=[4, 8, BATCH], build=f"{{shape: 7b, kv: {kv}}}", edge="3%",
    )  # fmt: skip


def to_hold() -> int:
    """Bytes that another process has to take. SystemExit where the GPU is too small for the shape itself."""
    import torch

    from harness.embedded.llama.shapes import SHAPES

    shape = SHAPES["7b"]
    wanted = 2 * shape.weights + BESIDE_BYTES + BATCH * EDGE * shape.kv_bytes(16)
    free, _ = torch.cuda.mem_get_info()
    if free < wanted:
        raise SystemExit(f"{free >> 20} MiB are free, and the 7B shape wants {wanted >> 20}")
    return int(free - wanted)


@contextmanager
def _holding(size: int) -> Iterator[None]:
    """While it lasts another process holds so many bytes of the GPU."""
    if not size:
        yield
        return
    argv = [sys.executable, "-c", HOLDER, str(size)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin
        assert holder.stdout
        try:
            if holder.stdout.readline().strip() != "held":
                raise SystemExit("the memory of the GPU could not be held")
            yield
        finally:
            holder.stdin.close()


def lines(found: Found, name: str) -> list[str]:
    text = [
        f"Another process held {found['held_bytes'] / 2**30:.1f} GiB. **{found['verdict']}**: "
        f"{' '.join(found['reason'].split())}", "",
        f"{found['seconds']:.0f} s; set: {words(found['set'])}.", "", *edge(found), *findings(found),
    ]  # fmt: skip
    return [*text, "", f"[page]({name}/report.html), [text]({name}/report.md)"]


def edge(found: Found) -> list[str]:
    """How far off the foretold edge was."""
    told: dict[str, Any] = next((each for each in found["findings"] if each["metric"] == "memory.edge"), {})
    if not told or not told.get("effect") or not told.get("interval") or None in told["interval"]:
        return []
    low, high = told["interval"]
    middle = (low + high) / 2
    off = 100 * (told["effect"] / middle - 1)
    return [
        f"Memory ended between {low:.0f} and {high:.0f} tokens; foretold {told['effect']:.0f}, {off:+.1f} % off.",
        "",
    ]


if __name__ == "__main__":
    main(measure)
