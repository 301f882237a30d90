"""The steps of the campaign, in order of worth, and what each is expected to cost on an H200.

Each is a module that is run as a process of its own (`place.main`); its `lines` are its part of the page. Importing one
imports neither torch nor the harness's heavier rooms.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LATE_S = 20.0
"""How much longer than the budget a step that was begun in time may take."""


@dataclass(frozen=True)
class Step:
    """`expected_s`: seconds, its process's start included; it is not begun when less is left."""

    name: str
    module: str
    expected_s: float
    what: str

    @property
    def limit_s(self) -> float:
        """A step that takes longer hangs."""
        return 2 * self.expected_s + 30

    def command(self, folder: Path, *, rehearsed: bool) -> list[str]:
        argv = [sys.executable, "-m", self.module, "--name", self.name, "--folder", str(folder)]
        return [*argv, *(["--rehearse"] if rehearsed else [])]


def _step(name: str, expected_s: float, what: str, module: str = "") -> Step:
    return Step(name, f"{__name__}.{module or name}", expected_s, what)


STEPS: tuple[Step, ...] = (
    _step("facts", 15, "the GPU, its driver, CUDA, PyTorch; whether NVML tells processes apart"),
    _step("speed", 130, "a decode step by batch size, FP8 against FP16, beside arithmetic and bandwidth"),
    _step("kl", 50, "KL per token of FP8 against FP16, on the GPU and on a CPU by the same code"),
    _step("demo", 100, "fp8-canary: the good candidate", "canary"),
    _step("shifted", 50, "fp8-canary: a loader that is off by a row", "canary"),
    _step("slow", 50, "fp8-canary: a step takes 30 % longer", "canary"),
    _step("erring", 50, "fp8-canary: 30 % of the requests fail", "canary"),
    _step("memory", 50, "NVML's memory against Triton's own metrics; memory of each process"),
    _step("sampler", 110, "p50 with and without the reader of the GPU, in alternation"),
    _step("long-fp16", 170, "long-context, FP16 cache: the edge foretold and measured; the GPU nearly full", "long"),
    _step("long-fp8", 170, "long-context, FP8 cache: the same", "long"),
    _step("coupling", 100, "both arms on one GPU at once against each alone"),
    _step("verdicts", 155, "paired and one request at a time: the same verdicts? SmolLM2"),
    _step("multi", 100, "multi-model-server: an embedding model and a language model on one GPU", "scenarios"),
    _step("kernels", 90, "the fused kernels against plain PyTorch: equal, and how much faster"),
    _step("verdicts-7b", 150, "the same of a 7B model", "verdicts"),
    _step("long", 480, "long-context on the whole GPU", "scenarios"),
)


def chosen(names: Sequence[str]) -> tuple[Step, ...]:
    """Those of `names`, in their order; all without any. SystemExit names one that is unknown."""
    known = {step.name: step for step in STEPS}
    for name in names:
        if name not in known:
            raise SystemExit(f"unknown step {name}: known are {', '.join(known)}")
    return tuple(known[name] for name in names) if names else STEPS


def table() -> str:
    """What the steps cost, as Markdown."""
    rows = [f"| `{step.name}` | {step.expected_s:.0f} | {step.what} |" for step in STEPS]
    total = f"| together | {sum(step.expected_s for step in STEPS):.0f} | |"
    return "\n".join(["| step | expected, s | what |", "|---|--:|---|", *rows, total])
