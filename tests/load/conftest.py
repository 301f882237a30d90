"""One Triton with two tiny versions for the tests that need a real one; specs and a driver for all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.load import Generator, LoadSpec
from harness.recording import read_table
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
    folder = tmp_path_factory.mktemp("load") / "repository"
    build_repository(
        folder, {"tiny": {1: {"delay_ms": 2.0}, 2: {"delay_ms": 2.0, "fail": 0.5}, 3: {"delay_ms": 3000.0}}}
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


def wait_for(generator: Generator, name: str, index: int, deadline_s: float = 60.0) -> dict[str, Any]:
    """The named event of a stage; a failure shows what Locust printed."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        for event in generator.events(0.25):
            if event["event"] == name and event.get("index") == index:
                return event
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
