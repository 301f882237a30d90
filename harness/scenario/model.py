"""A scenario as data: frozen, strict, every rule that needs no look at the world checked.

Dumping gives the file's own words back (`for: "90s"`), so a dumped scenario can be run again.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.scenario import metrics, rules
from harness.scenario.fields import NAME, Section
from harness.scenario.places import StoreConfig
from harness.scenario.sections import (
    ArmConfig,
    DeployConfig,
    GateField,
    LoadConfig,
    OnFailConfig,
    OnPromoteConfig,
    StageConfig,
    TargetConfig,
    TelemetryConfig,
)
from harness.types import ArmName, Gate

DEFAULT_LOGPROBS = 10


class Scenario(Section):
    """A comparison and what follows from it."""

    name: str = Field(
        pattern=NAME,
        description="letters, digits, dot, dash; names the folder",
    )
    description: str = Field("", description="one line for people")
    seed: int = Field(1, ge=0, lt=2**63, description="fixes due times, arms and prompts")
    target: TargetConfig = Field(default_factory=TargetConfig, description="where Triton is")
    store: StoreConfig | None = Field(None, description="where the candidate's version comes from; needs deploy")
    baseline: ArmConfig = Field(description="what serves now")
    candidate: ArmConfig = Field(description="what is to be judged")
    gates: Annotated[tuple[Annotated[Gate, GateField], ...], Field(strict=False)] = Field(
        (), description="the rules; without any the judge's defaults for the kind of model"
    )
    load: LoadConfig = Field(default_factory=LoadConfig, validate_default=True, description="what is sent")
    deploy: DeployConfig | None = Field(
        None,
        description="bring the candidate (sync it, if there is a store, and load it) under traffic to the baseline",
    )
    stages: Annotated[tuple[StageConfig, ...], Field(strict=False)] = Field(
        min_length=1, max_length=100, description="one after the other, each only if the one before was good"
    )
    on_fail: OnFailConfig | None = Field(None, description="what a rollback does")
    on_promote: OnPromoteConfig | None = Field(None, description="what a promotion does")
    telemetry: TelemetryConfig = Field(default_factory=TelemetryConfig, description="what is measured beside")

    @field_validator("load", mode="after")
    @classmethod
    def _logprobs_for_quality(cls, load: LoadConfig, info: ValidationInfo) -> LoadConfig:
        quality = any(metrics.is_quality(gate.metric) for gate in info.data.get("gates", ()))
        if quality and "logprobs" not in load.model_fields_set:
            return load.model_copy(update={"logprobs": DEFAULT_LOGPROBS})
        return load

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        arms: dict[ArmName, ArmConfig] = {"baseline": self.baseline, "candidate": self.candidate}
        rules.servers(self.target, arms)
        rules.arms(self.target, self.baseline, self.candidate)
        rules.deploy(self.target, self.store, self.deploy, self.baseline, self.candidate)
        rules.gates(self.gates, self.load, self.stages)
        rules.actions(self.stages, arms, self.on_fail, self.on_promote)
        return self
