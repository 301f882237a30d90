"""This generator as a run uses it: a Locust process that sends, reads and records, told what to do over its pipe."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from harness.embedded import EmbeddedServer
from harness.load import Generator, LoadSpec
from harness.recording import read_table
from harness.types import Arm, StagePlan
from tests.bench.load.figures import Figures
from tests.bench.load.server import MODEL


@dataclass(frozen=True, slots=True)
class Open:
    """An open loop: lag in ms, and the generator's share of a core."""

    lag_p50_ms: float
    lag_p99_ms: float
    cpu_share: float
    p50_us: float


def closed(server: EmbeddedServer, wire: str, folder: Path, in_flight: int, seconds: float) -> Figures:
    plan = StagePlan(0, "split", "closed", seconds, 0.0, in_flight=in_flight)
    samples, cpu_s = _drive(server, wire, folder, plan)
    latency_us = (samples["done_ns"] - samples["sent_ns"]) / 1e3
    return Figures(len(latency_us) / seconds, cpu_s / len(latency_us) * 1e6, float(np.median(latency_us)))


def poisson(server: EmbeddedServer, wire: str, folder: Path, rate: float, seconds: float) -> Open:
    plan = StagePlan(0, "split", "poisson", seconds, 0.0, rate=rate)
    samples, cpu_s = _drive(server, wire, folder, plan)
    lag_ms = (samples["sent_ns"] - samples["due_ns"]) / 1e6
    latency_us = (samples["done_ns"] - samples["sent_ns"]) / 1e3
    p50, p99 = np.quantile(lag_ms, [0.5, 0.99])
    return Open(float(p50), float(p99), cpu_s / seconds, float(np.median(latency_us)))


def _drive(
    server: EmbeddedServer, wire: str, folder: Path, plan: StagePlan
) -> tuple[dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]], float]:
    """Columns of the samples, and the CPU seconds of the whole process between the stage's begin and its end."""
    folder.mkdir(parents=True)
    url = server.http_url if wire == "http" else server.grpc_url
    spec = LoadSpec(
        arms={"baseline": Arm(url, MODEL.name, 1)}, models={"baseline": MODEL}, seed=1, prompts=(), max_tokens=1,
        timeout_s=30.0, logprobs_k=0, chunks=False, t0_ns=time.monotonic_ns(), folder=folder,
    )  # fmt: skip
    with Generator(spec, folder / "load.log") as generator:
        generator.start()
        process = psutil.Process(generator.pid)
        generator.stage(plan)
        begin = _await(generator, "stage_begun", process)
        end = _await(generator, "stage_done", process)
        generator.stop()
    table = read_table(folder, "samples")
    assert table is not None
    assert set(table["status"].to_pylist()) == {"ok"}
    return {name: table[name].to_numpy() for name in ("due_ns", "sent_ns", "done_ns")}, end - begin


def _await(generator: Generator, name: str, process: psutil.Process) -> float:
    while not any(event["event"] == name for event in generator.events(1.0)):
        pass
    times = process.cpu_times()
    return times.user + times.system
