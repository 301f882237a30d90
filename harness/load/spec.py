"""What the Locust process is told: everything that it needs, in one JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from harness.errors import UsageError
from harness.types import Arm, ArmName, ModelInfo, StagePlan, TensorSpec, Wire

# Payloads of a model without prompts; the plan numbers as many.
RANDOM_PAYLOADS = 64


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One run's load.

    `t0_ns` is the start of the run on CLOCK_MONOTONIC; every time in the recording counts from it.
    `logprobs_k`: top-k log-probabilities asked of a token model, 0 for no comparison of outputs.
    `compare_outputs`: keep a digest of every answer of a model that is not a token model.
    `chunks`: keep the arrival time of every streamed chunk.
    """

    arms: Mapping[ArmName, Arm]
    models: Mapping[ArmName, ModelInfo]
    stages: tuple[StagePlan, ...]
    seed: int
    prompts: tuple[str, ...]
    max_tokens: int
    timeout_s: float
    logprobs_k: int
    chunks: bool
    t0_ns: int
    folder: Path
    worker: int = 0
    compare_outputs: bool = False

    @property
    def payloads(self) -> int:
        """How many distinct payloads there are; the plan picks among them."""
        return len(self.prompts) or RANDOM_PAYLOADS

    @property
    def keeps_outputs(self) -> bool:
        return self.logprobs_k > 0 or self.compare_outputs

    def check(self) -> None:
        """Raises UsageError with one line if an arm cannot be driven at all."""
        for arm in self.arms:
            wire_of(self.arms[arm], self.models[arm])
            if self.models[arm].is_token_model and not self.prompts:
                raise UsageError(f"{self.models[arm].name} reads text: give it prompts (load.prompts)")

    def to_json(self) -> str:
        """One line, so that it can travel in the protocol."""
        return json.dumps({**asdict(self), "folder": str(self.folder)}, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields: dict[str, Any] = json.loads(text)
        fields["arms"] = {name: Arm(**arm) for name, arm in fields["arms"].items()}
        fields["models"] = {name: _model(model) for name, model in fields["models"].items()}
        fields["stages"] = tuple(StagePlan(**stage) for stage in fields["stages"])
        fields["prompts"] = tuple(fields["prompts"])
        fields["folder"] = Path(fields["folder"])
        return cls(**fields)


def wire_of(arm: Arm, model: ModelInfo) -> Wire:
    """How requests travel to this arm, from the scheme of its address and the model.

    Raises UsageError where scheme and model do not fit.
    """
    scheme, _, rest = arm.url.partition("://")
    if not rest or scheme not in ("grpc", "http"):
        raise UsageError(f"{arm.url}: an address starts with grpc:// or http://")
    if scheme == "http":
        if model.decoupled:
            raise UsageError(f"{model.name} at {arm.url}: decoupled models stream over gRPC: pass grpc://...")
        return "http"
    return "grpc-stream" if model.decoupled else "grpc"


def host_of(url: str) -> str:
    """`host:port` of an arm's address."""
    return url.partition("://")[2].partition("/")[0]


def _model(fields: dict[str, Any]) -> ModelInfo:
    def tensors(specs: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in specs)

    return ModelInfo(
        **{
            **fields,
            "versions": tuple(fields["versions"]),
            "inputs": tensors(fields["inputs"]),
            "outputs": tensors(fields["outputs"]),
        }
    )
