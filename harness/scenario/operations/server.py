"""multi-model-server, as its file describes it."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.scenario.fields import (
    REGION,
    ControlUrl,
    Duration,
    Factor,
    MemoryLimit,
    Section,
    Share,
    Wrong,
    between,
    memory_limit,
    memory_text,
)
from harness.scenario.operations.base import Operation
from harness.scenario.operations.load import SentLoad
from harness.scenario.operations.metered import Metered
from harness.scenario.sections import CalledConfig, TlsConfig
from harness.units import format_duration, format_factor, format_percent

ORDER = ("first", "second", "both", "second", "first")
"""Forwards and backwards: what drifts evenly over the run is the same on average alone and together."""


class SharedServer(Metered):
    """The server, or the GPU, that the models share."""

    server: Literal["embedded"] | None = Field(None, description="embedded: a Triton is started for the run")


class SharedModel(SentLoad, CalledConfig):
    """A model of the server, called at its own address, and the load that it gets."""

    url: ControlUrl | None = Field(None, description="where it is called: http://host:8000, grpc://host:8001")
    over: Literal["http", "grpc"] | None = Field(None, description="embedded server only: the address to call it at")

    @field_validator("tls", mode="after")
    @classmethod
    def _certificates(cls, value: TlsConfig | None, info: ValidationInfo) -> TlsConfig | None:
        return value.seen_from("tls", info) if value else value


class ServerLimits(Section):
    """How much worse it may be for a model that it has company."""

    latency: Factor = Field(2.0, description="p50, p95 and p99 of each time together, against alone: at most 2x")
    throughput: Share = Field(0.2, description="requests, and tokens, a second: at most this much fewer together")
    memory: MemoryLimit = Field(
        memory_limit("90%"), description="the most that a peak of it may be: 90% of what there is, or 40GiB"
    )
    errors: Share = Field(0.01, description="of the requests of either model, together")
    drift: Share = Field(0.25, description="how far the two measurements of a model alone may lie apart (p50)")


class MultiModelServer(Operation):
    """Two models on one server: what each does to the other."""

    kind: Literal["multi-model-server"]
    target: SharedServer = Field(default_factory=SharedServer, description="the server that they share")
    models: dict[str, SharedModel] = Field(description="two, by a name of one's own: embedding and llm, say")
    phase_s: Duration = Field(30.0, alias="phase", description="each alone, twice; and twice as long together")
    warm_up_s: Duration = Field(3.0, alias="warm_up", description="of each phase, not counted")
    limits: ServerLimits = Field(default_factory=ServerLimits, description="what living together may cost")
    seed: int = Field(1, ge=0, lt=2**31, description="fixes the requests")

    @model_validator(mode="after")
    def _fits(self) -> MultiModelServer:
        between(self.phase_s, 2.0, 86400.0, "phase")
        between(self.warm_up_s, 0.0, 3600.0, "warm_up")
        if len(self.models) != 2:
            raise Wrong(f"expected two models, found {len(self.models)}", "models")
        for name, model in self.models.items():
            if not re.fullmatch(REGION, name):
                raise Wrong("expected a name of small letters, digits, _ -", "models", name)
            if self.embedded and model.url is not None:
                raise Wrong("the embedded server has its own url; give target.server or url, not both", "models", name)
            if not self.embedded:
                if model.url is None:
                    raise Wrong("give target: {server: embedded}, or where the model is called", "models", name)
                for key in ("build", "over"):
                    if getattr(model, key) is not None:
                        raise Wrong("only the embedded server has it; remove it", "models", name, key)
            model.check_address(model.url, "models", name)
        first, second = self.models.values()
        if (first.model, first.version, first.url) == (second.model, second.version, second.url):
            raise Wrong("expected two models, found the same twice", "models")
        return self

    @property
    def embedded(self) -> bool:
        return self.target.server is not None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where the models are called that have a url."""
        return tuple(model.url for model in self.models.values() if model.url is not None)

    @property
    def order(self) -> tuple[tuple[str, ...], ...]:
        """The phases: which models get their load in each."""
        first, second = self.models
        names = {"first": (first,), "second": (second,), "both": (first, second)}
        return tuple(names[word] for word in ORDER)

    def seconds(self, names: tuple[str, ...]) -> float:
        """Of a phase, without its warm-up: together as long as alone, which is measured twice."""
        return self.phase_s * len(names)

    @property
    def steps(self) -> tuple[str, ...]:
        loads = ", ".join(f"{name} ({model.model}) {model.words}" for name, model in self.models.items())
        limits = self.limits
        return (
            "start a Triton with both models" if self.embedded else "check that both models serve",
            f"each under its own load: {loads}",
            self.target.reads(limits.memory, self.urls),
            *(
                f"{' and '.join(names)}{' together' if len(names) > 1 else ' alone'} for "
                f"{format_duration(self.seconds(names))}, after {format_duration(self.warm_up_s)} of warm-up"
                for names in self.order
            ),
            "compare together with alone, with intervals from blocks of time: latency at most "
            f"{format_factor(limits.latency)}, throughput at most {format_percent(limits.throughput)} lower, "
            f"memory at most {memory_text(limits.memory)}",
        )
