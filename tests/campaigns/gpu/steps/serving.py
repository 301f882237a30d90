"""A Triton of the step's own, closed loops that ask its versions, and what reads the GPU beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.campaigns.gpu.steps.place import ROOT, Place

if TYPE_CHECKING:
    import pyarrow as pa

    from harness.embedded import EmbeddedServer
    from harness.telemetry import Sampler

PROMPTS = ROOT / "scenarios" / "prompts" / "questions.jsonl"
FIRST = 3
"""Requests of a stage that are not counted, of at least four times as many: connections and caches are made."""
PATIENCE_S = 120.0


@contextmanager
def serving(
    place: Place, models: Mapping[str, Mapping[int, Any]], name: str = "server",
    load: Mapping[str, Sequence[int]] | None = None,
) -> Iterator[EmbeddedServer]:  # fmt: skip
    """With all of `models` loaded, or only the versions of `load`; their builds by version.

    SystemExit where they would not run on a GPU.
    """
    from harness.embedded import EmbeddedServer, build_repository, gpu_available

    if not place.rehearsed and (reason := gpu_available()):
        raise SystemExit(f"the models would run on the CPU: {reason}")
    folder = place.folder / name
    build_repository(folder / "models", models)
    with EmbeddedServer(folder / "models", folder / "server.log") as server:
        server.start(load or {model: sorted(versions) for model, versions in models.items()})
        yield server


class Load:
    """Asks one version; its requests are in `folder`. A context manager."""

    def __init__(
        self, server: EmbeddedServer, folder: Path, model: str, version: int, *, max_tokens: int = 8, logprobs: int = 0
    ) -> None:
        from harness.load import Generator, LoadSpec
        from harness.scenario.prompts import read_prompts
        from harness.triton import Control
        from harness.types import Arm

        folder.mkdir(parents=True)
        with Control(server.grpc_url) as control:
            info = control.metadata(model, version)
        spec = LoadSpec(
            arms={"baseline": Arm(server.grpc_url, model, version)}, models={"baseline": info}, seed=1,
            prompts=read_prompts(PROMPTS) if info.is_token_model else (), max_tokens=max_tokens, timeout_s=60.0,
            logprobs_k=logprobs, chunks=False, t0_ns=time.monotonic_ns(), folder=folder,
        )  # fmt: skip
        self.folder = folder
        self._generator = Generator(spec, folder / "load.log")
        self._stages = 0

    def __enter__(self) -> Load:
        self._generator.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._generator.kill()

    def begin(self, seconds: float, in_flight: int = 1) -> int:
        """The number of the stage."""
        from harness.types import StagePlan

        number, self._stages = self._stages, self._stages + 1
        self._generator.stage(StagePlan(number, "split", "closed", seconds, 0.0, in_flight=in_flight))
        return number

    def wait(self, number: int) -> None:
        """Until that stage is over. Raises WorldError, ServerDied."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            events = [(event["event"], event.get("index")) for event in self._generator.events(0.5)]
            if ("stage_done", number) in events:
                return
        raise SystemExit(f"the load is not over: see {self.folder}/load.log")

    def run(self, seconds: float, in_flight: int = 1) -> int:
        number = self.begin(seconds, in_flight)
        self.wait(number)
        return number

    def stop(self) -> pa.Table:
        """Its samples."""
        from harness.recording import read_table

        self._generator.stop()
        table = read_table(self.folder, "samples")
        assert table is not None
        return table


def times(samples: pa.Table, number: int) -> dict[str, float]:
    """Of one stage: how many were answered, failed, and p50 in ms; of token models of each time. SystemExit: none was
    answered.
    """
    rows = samples.filter(np.asarray(samples["stage"]) == number)
    rows = rows.slice(min(FIRST, len(rows) // 4))
    ok = rows.filter(np.asarray(rows["status"]) == "ok")
    sent, first, done, osl = (np.asarray(ok[name], np.float64) for name in ("sent_ns", "first_ns", "done_ns", "osl"))
    if not len(ok):
        raise SystemExit(f"none of {len(rows)} requests of stage {number} was answered")
    found = {"answered": float(len(ok)), "failed": float(len(rows) - len(ok)), "latency_ms": _p50(done - sent)}
    if len(osl) and osl.max() > 0:
        several = osl > 1
        found["ttft_ms"] = _p50(first - sent)
        found["tpot_ms"] = _p50((done - first)[several] / (osl - 1)[several])
    return found


def _p50(ns: Any) -> float:
    return float(np.median(ns)) / 1e6


def reading(server: EmbeddedServer, folder: Path, interval_s: float = 1.0, gpu_interval_s: float = 0.1) -> Sampler:
    """What a run reads beside its requests, at a run's own pace; not started."""
    from harness.telemetry import Sampler, gpus, sources

    folder.mkdir(parents=True)
    t0_ns = time.monotonic_ns()
    reader = gpus(folder, t0_ns, [server.metrics_url], server.pid, interval_s=gpu_interval_s)
    pages = sources([server.metrics_url], server.pid)
    return Sampler(pages, folder / "readings.arrow", t0_ns, interval_s, beside=reader)


def summary(readings: pa.Table | None, metrics: Sequence[str], source: str = "nvml") -> dict[str, Any]:
    """Of each metric of the first GPU: polls, least, median, most, and its unit; nothing of what was not read."""
    if readings is None:
        return {}
    found = {}
    columns = {name: np.asarray(readings[name]) for name in ("source", "device", "metric", "value", "unit")}
    for metric in metrics:
        mine = (columns["source"] == source) & (columns["device"] == "gpu0") & (columns["metric"] == metric)
        if mine.any():
            values = columns["value"][mine]
            least, median, most = (float(each) for each in np.quantile(values, [0, 0.5, 1]))
            found[metric] = {
                "polls": int(mine.sum()), "least": least, "median": median, "most": most,
                "unit": str(columns["unit"][mine][0]),
            }  # fmt: skip
    return found
