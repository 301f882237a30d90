"""A scenario as data: frozen, strict, every rule that needs no look at the world checked.

Dumping gives the file's own words back (`for: "90s"`), so a dumped scenario can be run again.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace
from functools import cached_property
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.scenario import quality, rules
from harness.scenario.fields import NAME, Section, Wrong, path_of
from harness.scenario.places import StoreConfig
from harness.scenario.plan.stages import replayed_s
from harness.scenario.replay import prompts_of
from harness.scenario.sections import (
    ArmConfig,
    DeployConfig,
    GateField,
    IngressConfig,
    LoadConfig,
    OnFailConfig,
    OnPromoteConfig,
    ScorerConfig,
    StageConfig,
    TargetConfig,
    TelemetryConfig,
)
from harness.scenario.synthetic import synthesise, vocabulary
from harness.scenario.trace import Row
from harness.tokens import counter
from harness.types import ArmName, Gate, Prompt

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
    stable: ArmConfig | None = Field(
        None,
        description="what gets the rest where a stage gives the baseline a share of its own; otherwise the baseline's "
        "model, version and server",
    )
    gates: Annotated[tuple[Annotated[Gate, GateField], ...], Field(strict=False)] = Field(
        (), description="the rules; without any the judge's defaults for the kind of model"
    )
    load: LoadConfig = Field(default_factory=LoadConfig, validate_default=True, description="what is sent")
    scorers: dict[str, ScorerConfig] = Field(
        default_factory=dict, description="who scores the answers of token models, by name: {answer: {use: exact}}"
    )
    deploy: DeployConfig | None = Field(
        None,
        description="bring the candidate (sync it, if there is a store, and load it) under traffic to the baseline",
    )
    ingress: IngressConfig | None = Field(
        None, description="what routes the users' traffic; without it the harness's own split does"
    )
    stages: Annotated[tuple[StageConfig, ...], Field(strict=False)] = Field(
        min_length=1, max_length=100, description="one after the other, each only if the one before was good"
    )
    on_fail: OnFailConfig | None = Field(None, description="what a rollback does")
    on_promote: OnPromoteConfig | None = Field(None, description="what a promotion does")
    telemetry: TelemetryConfig = Field(default_factory=TelemetryConfig, description="what is measured beside")

    @field_validator("baseline", "candidate", "stable", mode="after")
    @classmethod
    def _certificates(cls, arm: ArmConfig | None, info: ValidationInfo) -> ArmConfig | None:
        if arm is None or arm.tls is None:
            return arm
        return arm.model_copy(update={"tls": arm.tls.seen_from(f"{info.field_name}.tls", info)})

    @field_validator("baseline", "candidate", "stable", mode="after")
    @classmethod
    def _repository_from_file(cls, arm: ArmConfig | None, info: ValidationInfo) -> ArmConfig | None:
        if arm is None or arm.repository is None:
            return arm
        return arm.model_copy(update={"repository": path_of(arm.repository, f"{info.field_name}.repository", info)})

    @field_validator("ingress", mode="after")
    @classmethod
    def _certificates_there(cls, ingress: IngressConfig | None, info: ValidationInfo) -> IngressConfig | None:
        if ingress is None or ingress.tls is None:
            return ingress
        return ingress.model_copy(update={"tls": ingress.tls.seen_from("ingress.tls", info)})

    @field_validator("load", mode="after")
    @classmethod
    def _logprobs_for_quality(cls, load: LoadConfig, info: ValidationInfo) -> LoadConfig:
        forced = any(gate.metric in quality.FORCED for gate in info.data.get("gates", ()))
        if forced and "logprobs" not in load.model_fields_set:
            return load.model_copy(update={"logprobs": DEFAULT_LOGPROBS})
        return load

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        arms: dict[ArmName, ArmConfig] = {"baseline": self.baseline, "candidate": self.candidate}
        if self.stable is not None:
            arms["stable"] = self.stable
        rules.servers(self.target, arms)
        rules.arms(self.target, self.baseline, self.candidate)
        rules.stable(self.target, self.stable, self.baseline, self.candidate, self.stages)
        rules.ingress(self.target, self.ingress, self.baseline, self.candidate, self.stable, self.stages)
        rules.deploy(self.target, self.store, self.deploy, self.baseline, self.candidate)
        rules.swap(self.target, self.baseline, self.candidate, self.stages, self.load)
        rules.load(self.load, self.stages)
        rules.scorers(self.scorers, self.load)
        rules.gates(self.gates, self.load, self.stages, self.scorers)
        rules.gpus(self.gates, arms)
        rules.actions(self.target, self.stages, arms, self.on_fail, self.on_promote)
        rules.after_swaps(self.target, self.on_fail, self.deploy)
        self._prepare()
        return self

    def _prepare(self) -> None:
        """A trace that cannot be read, and prompts that cannot be made, are mistakes of the file, too."""
        try:
            _ = self.rows
        except ValueError as error:
            raise Wrong(str(error), "load", "trace") from error
        try:
            _ = self.prompts
        except ValueError as error:
            raise Wrong(str(error), "load", *(() if self.load.tokenizer else ("synthetic",)), "tokenizer") from error

    def _gated(self, *metrics: str) -> bool:
        return any(gate.metric in metrics for gate in self.gates)

    @property
    def keeps_texts(self) -> bool:
        """What token models answer is recorded: somebody scores it, or a gate asks for it."""
        return self.load.outputs or bool(self.scorers) or self._gated(*quality.TEXTS)

    @property
    def keeps_vectors(self) -> bool:
        """The numbers of answers that are short vectors are."""
        return self.load.outputs or self._gated(*quality.VECTORS)

    @property
    def asks_logprob(self) -> bool:
        """Engines are asked for the log-probability of their own answer."""
        return self._gated("quality.logprob")

    @property
    def arms(self) -> dict[ArmName, ArmConfig]:
        """Every arm that some stage sends requests to."""
        arms: dict[ArmName, ArmConfig] = {"baseline": self.baseline, "candidate": self.candidate}
        if any(stage.baseline_share is not None for stage in self.stages):
            arms["stable"] = self.stable or self.baseline
        return arms

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The trace as it was recorded, as far as a stage replays it, and one row more; () where there is none."""
        return self.load.rows(replayed_s(self.stages))

    @cached_property
    def due_ns(self) -> tuple[int, ...]:
        """When the rows are due, at the speed that is asked for."""
        return tuple(int(row.t_ns / self.load.speed) for row in self.rows)

    @cached_property
    def trace_ns(self) -> tuple[int, ...]:
        """When they are, of those that a stage asks."""
        until_s = replayed_s(self.stages)
        return self.due_ns if until_s is None else self.due_ns[: bisect_left(self.due_ns, math.ceil(until_s * 1e9))]

    @cached_property
    def tokenizer(self) -> str:
        """What the load's tokenizer.json holds, "" without one. Raises ValueError if it cannot be read."""
        file = self.load.counts_with
        if file is None:
            return ""
        try:
            return file.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"expected a tokenizer.json, found {file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"expected a tokenizer.json, found {file}, which is not UTF-8 text") from error

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """What requests ask: the file's, synthetic ones, or one for each row of the trace that `trace_ns` has."""
        load = self.load
        count = counter(self.tokenizer, str(load.counts_with)) if load.counts_with else None
        if load.listed:
            return tuple(replace(one, tokens=count(one.text)) for one in load.listed) if count else load.listed
        words = vocabulary(count)
        if load.synthetic is not None:
            made = load.synthetic
            return synthesise(made.prompts, made.input_tokens, self.seed, words, made.output_tokens)
        return prompts_of(self.rows[: len(self.trace_ns)], self.seed, words)
