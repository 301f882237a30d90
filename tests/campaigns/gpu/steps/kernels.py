"""The fused kernels on the GPU: `kernels_check --device`, a process of its own below this one."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

from tests.campaigns.gpu.steps.place import Found, Place, main

MODULE = "tests.campaigns.gpu.kernels_check"


def measure(place: Place) -> Found:
    """What differs is a finding, not a failure of the step: the models then use plain PyTorch instead."""
    if place.rehearsed and find_spec("triton") is None:
        return {"skipped": "the compiler `triton` is not installed here"}
    mode = "--interpret" if place.rehearsed else "--device"
    done = subprocess.run([sys.executable, "-m", MODULE, mode], stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout.strip():
        raise SystemExit(f"{MODULE} {mode} said nothing, exit code {done.returncode}")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def lines(found: Found) -> list[str]:
    if "skipped" in found:
        return [f"Not measured: {found['skipped']}."]
    wrong = [row for row in found["agree"] if row["wrong"]]
    graph = found.get("captured_wrong")
    in_graph = "" if graph is None else f"; in a CUDA graph: {graph or 'none'}"
    text = [
        f"{len(found['agree'])} comparisons with plain PyTorch on the same device (shapes, types of keys and values, "
        f"edges): {len(wrong)} differ beyond rounding{in_graph}.",
    ]
    text += [f"- {row['operation']}: {row['wrong']}" for row in wrong]
    times = found.get("times", [])
    rows = [row for row in times if row["operation"] != "decode_attention"]
    if rows:
        text += ["", "| operation | width | rows | fused, µs | plain, µs |", "|---|--:|--:|--:|--:|"]
        text += [
            f"| {row['operation']} | {row['width']} | {row['rows']} | {row['kernel_us']:.1f} | {row['plain_us']:.1f} |"
            for row in rows
        ]
    attention = [row for row in times if row["operation"] == "decode_attention"]
    if attention:
        text += [
            "", "Attention of a step, by how many sequences of how many tokens (plain is a loop over sequences):", "",
            "| shape | keys and values | sequences | tokens | fused, µs | read, GB/s | plain, µs |",
            "|---|---|--:|--:|--:|--:|--:|",
        ]  # fmt: skip
        text += [
            f"| {row['shape']} | {row['kept']} | {row['rows']} | {row['length']} | {row['kernel_us']:.1f} | "
            f"{row['read_gb_per_s']:,.0f} | {row['plain_us']:,.0f} |"
            for row in attention
        ]
    return text


if __name__ == "__main__":
    main(measure)
