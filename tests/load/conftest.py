"""One Triton with tiny versions for the tests that need a real one; specs, a driver and an account for all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.load import Generator, LoadSpec
from harness.recording import read_table
from harness.scenario.plan import requests
from harness.types import Arm, ModelInfo, StagePlan, TensorSpec

TINY = ModelInfo(
    name="tiny",
    platform="python",
    versions=(1, 2),
    inputs=(TensorSpec("INPUT", "FP32", (16,)),),
    outputs=(TensorSpec("OUTPUT", "FP32", (16,)),),
    max_batch_size=0,
    decoupled=False,
)
SMOLLM2 = ModelInfo(
    name="smollm2",
    platform="python",
    versions=(1, 2),
    inputs=(
        TensorSpec("text_input", "BYTES", (1,)),
        TensorSpec("max_tokens", "INT32", (1,), optional=True),
        TensorSpec("stream", "BOOL", (1,), optional=True),
        TensorSpec("forced_ids", "INT32", (-1,), optional=True),
        TensorSpec("logprobs", "INT32", (1,), optional=True),
    ),
    outputs=(
        TensorSpec("text_output", "BYTES", (1,)),
        TensorSpec("token_ids", "INT32", (-1,)),
        TensorSpec("topk_ids", "INT32", (-1, -1)),
        TensorSpec("topk_logprobs", "FP32", (-1, -1)),
        TensorSpec("finish_reason", "BYTES", (1,)),
        TensorSpec("input_tokens", "INT32", (1,)),
    ),
    max_batch_size=0,
    decoupled=True,
)

PAIRED = StagePlan(0, "paired", "closed", 1.0, 0.5, in_flight=1)


def make_spec(folder: Path, *, url: str = "grpc://127.0.0.1:1", **changes: Any) -> LoadSpec:
    """A spec for the two versions of a model behind `url`; `model` picks which."""
    model: ModelInfo = changes.pop("model", TINY)
    fields: dict[str, Any] = {
        "arms": {"baseline": Arm(url, model.name, 1), "candidate": Arm(url, model.name, 2)},
        "models": {"baseline": model, "candidate": model},
        "seed": 7,
        "prompts": (),
        "max_tokens": 8,
        "timeout_s": 20.0,
        "logprobs_k": 0,
        "chunks": False,
        "t0_ns": time.monotonic_ns(),
        "folder": folder,
    }
    return LoadSpec(**{**fields, **changes})


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 2 fails half of its requests, and nobody gets an answer of version 3 within a test."""
    folder = tmp_path_factory.mktemp("load") / "repository"
    build_repository(
        folder, {"tiny": {1: {"delay_ms": 2.0}, 2: {"delay_ms": 2.0, "fail": 0.5}, 3: {"delay_ms": 60_000.0}}}
    )
    return folder


@pytest.fixture(scope="session")
def triton(repository: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(repository, repository.parent / "triton.log") as server:
        server.start({"tiny": [1, 2, 3]})
        yield server


def rows(folder: Path, name: str = "samples") -> list[dict[str, Any]]:
    """What is on disk so far; nothing if the file is not there yet."""
    table = read_table(folder, name)
    return [] if table is None else list(table.to_pylist())


_unread: WeakKeyDictionary[Generator, list[dict[str, Any]]] = WeakKeyDictionary()


def wait_for(generator: Generator, name: str, index: int, deadline_s: float = 60.0) -> dict[str, Any]:
    """The named event of a stage; a failure shows what Locust printed. What came behind it is for the next call."""
    deadline = time.monotonic() + deadline_s
    events = _unread.pop(generator, [])
    while time.monotonic() < deadline:
        for number, event in enumerate(events, 1):
            if event["event"] == name and event.get("index") == index:
                _unread[generator] = events[number:]
                return event
        events = generator.events(0.25)
    raise AssertionError(f"no {name} of stage {index}: {generator.log.read_text()[-2000:]}")


def drive(spec: LoadSpec, log: Path, *stages: StagePlan) -> list[dict[str, Any]]:
    """Carries out every stage (without any: PAIRED) and returns the samples."""
    with Generator(spec, log) as generator:
        generator.start()
        for stage in stages or (PAIRED,):
            generator.stage(stage)
            wait_for(generator, "stage_done", stage.index)
        generator.stop()
    return rows(spec.folder)


def account(spec: LoadSpec, *stages: StagePlan, workers: int = 1) -> dict[int, int]:
    """What left in the run's open-loop stages is their plan, from the first request on; returns when each began.

    A worker that is held up until a stage's end sends the rest no more. Then it was behind already when it sent its
    last request, and it has counted those that it never sent.
    """
    begins: dict[int, int] = {}
    for worker in range(workers):
        left_out = 0
        for stage in stages:
            plan = list(
                requests(
                    stage, spec.seed, spec.payloads, spec.trace_ns, worker=worker, workers=workers,
                    experiment=spec.experiment,
                )
            )  # fmt: skip
            sent = [row for row in rows(spec.folder) if (row["worker"], row["stage"]) == (worker, stage.index)]
            begun = plan[: len({row["pair_id"] for row in sent})]
            due = {one.pair_id: one.due_ns for one in begun}
            assert Counter((row["pair_id"], row["arm"]) for row in sent) == Counter(
                (one.pair_id, arm) for one in begun for arm in one.arms
            )
            for row in sent:
                begin_ns = row["due_ns"] - due[row["pair_id"]]
                assert begins.setdefault(stage.index, begin_ns) == begin_ns
            if sent and len(begun) < len(plan):
                next_ns = begins[stage.index] + plan[len(begun)].due_ns
                assert max(row["sent_ns"] for row in sent) >= next_ns, "it stopped, and was not behind"
            left_out += len(plan) - len(begun)
        never_sent = [
            row["value"]
            for row in rows(spec.folder, "readings")
            if (row["metric"], row["device"]) == ("never_sent", f"worker{worker}")
        ]
        assert left_out == sum(never_sent)
    return begins
