"""long-context, as its file describes it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.scenario.fields import Duration, MemoryLimit, Section, Share, Wrong, between, memory_text
from harness.scenario.operations.base import Operation
from harness.scenario.operations.metered import Metered
from harness.scenario.places import PlaceConfig, from_file
from harness.scenario.sections import CalledConfig, TlsConfig
from harness.types import Gate
from harness.units import format_percent

LEAST_POINTS = 8
"""A line through fewer says little of how far off it may be."""
MOST_CONTEXT, MOST_BATCH = 10_000_000, 4096
MOST = Gate("memory.peak", limit=0.92, limit_kind="share")
RAMP = (0.5, 0.75, 0.9, 1.0, 1.1)
"""Of the goal's context, in one fresh instance."""


class LongServer(PlaceConfig, Metered):
    """The Triton whose models are loaded alone, one after the other."""


class LongArm(CalledConfig):
    """A version, loaded alone while it is measured."""

    kv_bits: Literal[4, 8, 16, 32] = Field(
        16, description="in how many bits its engine keeps keys and values: for the estimate of a cache in 8"
    )

    @field_validator("tls", mode="after")
    @classmethod
    def _at_the_server(cls, value: TlsConfig | None) -> TlsConfig | None:
        if value is not None:
            raise ValueError("it is called where it is loaded: certificates come from the environment")
        return value


class Goal(Section):
    """What is to be served."""

    context: int = Field(ge=16, le=MOST_CONTEXT, description="tokens of prompt and answer together")
    batch: int = Field(1, ge=1, le=MOST_BATCH, description="sequences at the same time")


class MemoryLimits(Section):
    """How much memory the goal may take."""

    memory: MemoryLimit = Field(
        MOST, description="92% of the capacity, or 40GiB: by the upper end of the prediction, and as measured"
    )
    margin: Share | None = Field(None, description="how much more than the baseline's peak the candidate's may be")
    edge: Share = Field(0.05, description="how closely the context at which memory ends is looked for; 0%: not at all")


class OnOom(Section):
    """What is done where the goal's batch runs out of memory."""

    reduce: Literal["max_batch_size"] = Field(
        "max_batch_size",
        description="config.pbtxt, of all versions, gets the largest batch that fits; loaded again and verified",
    )


class LongContext(Operation):
    """How far the context can go: measured, foretold, and tried, for a version and the one before it."""

    kind: Literal["long-context"]
    target: LongServer = Field(description="where the versions lie and are loaded; nobody else may be asking them")
    baseline: LongArm | None = Field(None, description="the version of today, to hold the candidate against")
    candidate: LongArm = Field(description="the version that is to serve the longer context")
    goal: Goal = Field(description="what it is to serve: {context: 8192, batch: 4}")
    contexts: tuple[int, ...] = Field(strict=False, min_length=2, description="the ladder's, in tokens, rising")
    batches: tuple[int, ...] = Field(strict=False, min_length=1, description="the ladder's, rising: [1, 2, 4]")
    max_tokens: int = Field(8, ge=1, le=65536, description="of each answer; part of the context")
    repeats: int = Field(3, ge=1, le=10, description="how often the ramp to 110 % of the goal is climbed")
    limits: MemoryLimits = Field(default_factory=MemoryLimits, description="how much memory the goal may take")
    on_oom: OnOom | None = Field(None, description="what to do on OOM; without it nothing but to say so")
    timeout_s: Duration = Field(600.0, alias="timeout", description="of a request; a time-out is no OOM")
    seed: int = Field(1, ge=0, lt=2**31, description="fixes the prompts")

    @field_validator("target", mode="after")
    @classmethod
    def _from_file(cls, value: LongServer, info: ValidationInfo) -> LongServer:
        return from_file(value, "target", info)

    @model_validator(mode="after")
    def _fits(self) -> LongContext:
        between(self.timeout_s, 1.0, 86400.0, "timeout")
        for key in ("contexts", "batches"):
            values = getattr(self, key)
            if list(values) != sorted(set(values)) or values[0] < 1:
                raise Wrong(f"expected whole numbers that rise, found {list(values)}", key)
        if self.contexts[0] <= self.max_tokens:
            raise Wrong(f"a context holds max_tokens ({self.max_tokens}) and a prompt", "contexts", 0)
        if (points := len(self.contexts) * len(self.batches)) < LEAST_POINTS:
            raise Wrong(f"expected at least {LEAST_POINTS} points (contexts times batches), found {points}", "contexts")
        if not self.embedded:
            for name, arm in self.arms.items():
                if arm.build is not None:
                    raise Wrong("builds are made by the embedded server only; remove it", name, "build")
        for name, arm in self.arms.items():
            if arm.version is None:
                raise Wrong("it is loaded alone: say which version", name)
            if arm.api != "kserve":
                raise Wrong("batches are asked by the v2 protocol: kserve", name, "api")
        if self.limits.margin is not None and self.baseline is None:
            raise Wrong("there is no baseline to hold it against", "limits", "margin")
        if self.baseline and (self.baseline.model, self.baseline.version) == (
            self.candidate.model, self.candidate.version,
        ):  # fmt: skip
            raise Wrong("expected two versions, found the same twice", "candidate", "version")
        return self

    @property
    def arms(self) -> dict[str, LongArm]:
        """In the order in which they are measured."""
        return {**({"baseline": self.baseline} if self.baseline else {}), "candidate": self.candidate}

    @property
    def embedded(self) -> bool:
        return self.target.server is not None

    @property
    def steps(self) -> tuple[str, ...]:
        goal, limits = self.goal, self.limits
        points = len(self.contexts) * len(self.batches)
        climbed = ", ".join(format_percent(share) for share in RAMP)
        edge = f"look for the candidate's context at which memory ends, to within {format_percent(limits.edge)}"
        often = "once" if self.repeats == 1 else f"{self.repeats} times, each"
        acted = (
            f"on OOM: reduce max_batch_size of {self.candidate.model}, of all its versions, to what fits, load it "
            "again, verify it; put it back unless it is promoted"
        )
        return (
            "start a Triton" if self.embedded else f"see what serves on {self.target.url}, and that nobody asks it",
            *(
                f"{name}: {arm.model} version {arm.version}, loaded alone: {points} points, each in a fresh instance; "
                f"{climbed} of {goal.context} tokens at batch {goal.batch}, {often} in a fresh instance"
                for name, arm in self.arms.items()
            ),
            *([edge] if limits.edge else []),
            *([acted] if self.on_oom else []),
            f"serve again what served before; {goal.context} tokens at batch {goal.batch} fit if they take at most "
            f"{memory_text(limits.memory)} of memory, by the fit's 99 % prediction bound and as measured",
        )
