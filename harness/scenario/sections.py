"""The sections of a scenario file, each checked by itself; what must hold between them is in `rules`.

The field descriptions are the reference of the file format; the JSON Schema for editors is made from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator
from pydantic_core import core_schema

from harness.scenario import metrics
from harness.scenario.fields import (
    MODEL,
    Build,
    Duration,
    MetricsUrl,
    Rate,
    Section,
    ServerUrl,
    Share,
    Wrong,
    between,
    path_of,
)
from harness.scenario.metrics import limit_parser, limit_text, margin_parser, margin_text, parse_metric
from harness.scenario.prompts import read_prompts
from harness.scenario.units import found
from harness.types import Gate, Mode

DAY_S = 86400.0


class TargetConfig(Section):
    """Where Triton is."""

    server: Literal["embedded"] | None = Field(None, description="embedded: a Triton is started for the run")
    url: ServerUrl | None = Field(None, description="a Triton that runs already: grpc://host:port")
    metrics_url: MetricsUrl | None = Field(None, description="its metrics: http://host:8002/metrics")
    repository: str | None = Field(
        None,
        min_length=1,
        description="its model repository, where this machine sees it; from the file's folder",
    )
    versioned_clients: bool = Field(
        False, description="every client names its version, so a higher one may be loaded while requests arrive"
    )

    @model_validator(mode="after")
    def _one_place(self) -> TargetConfig:
        if self.server is None:
            return self
        for key in ("url", "metrics_url", "repository"):
            if getattr(self, key) is not None:
                raise Wrong(f"the embedded server has its own {key}; give server or {key}, not both", key)
        return self

    def url_of(self, arm: ArmConfig) -> str | None:
        """The arm's own server, else this one; None for the embedded one."""
        return arm.url or self.url

    @field_validator("repository", mode="after")
    @classmethod
    def _from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, "target.repository", info) if value else value


class ArmConfig(Section):
    """One side of the comparison."""

    model: str = Field(min_length=1, pattern=MODEL, description="the model's name in the repository")
    version: int | None = Field(None, ge=1, description="the version; without one Triton picks the highest")
    build: Build | None = Field(None, description="embedded server only: which build of the demonstration model")
    url: ServerUrl | None = Field(None, description="this arm's own server; otherwise target.url")
    headers: dict[str, str] = Field(default_factory=dict, description="sent with each request of this arm")
    parameters: dict[str, Any] = Field(default_factory=dict, description="request parameters of this arm")

    @field_validator("parameters", mode="after")
    @classmethod
    def _scalars(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, part in value.items():
            if not isinstance(part, str | int | float | bool):
                raise Wrong(f"expected text, a number, true or false, found {found(part)}", name)
        return value


class LoadConfig(Section):
    """What is sent."""

    prompts: str | None = Field(
        None,
        min_length=1,
        description='JSON lines of {"prompt": "..."}; from the folder of the scenario file',
    )
    max_tokens: int = Field(16, ge=1, le=1_000_000, description="output tokens a request at most")
    timeout_s: Duration = Field(30.0, alias="timeout", description="after this a request is a time-out")
    logprobs: int = Field(
        0, ge=0, le=1000, description="top-k log-probabilities to ask for; 10 where a gate judges quality"
    )
    arrival: Literal["poisson", "constant"] = Field(
        "poisson", description="how the requests of a stage with a rate are spaced"
    )
    _texts: tuple[str, ...] = PrivateAttr(default=())

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts that were read from the file, () if there is none."""
        return self._texts

    @field_validator("timeout_s", mode="after")
    @classmethod
    def _bounded(cls, value: float) -> float:
        between(value, 0.001, DAY_S)
        return value

    @field_validator("prompts", mode="after")
    @classmethod
    def _from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, "load.prompts", info) if value else value

    @model_validator(mode="after")
    def _read(self) -> LoadConfig:
        if self.prompts is not None:
            try:
                self._texts = read_prompts(Path(self.prompts))
            except ValueError as error:
                raise Wrong(str(error), "prompts") from error
        return self


class GateConfig(Section):
    """One rule: a margin against the baseline, or a limit."""

    metric: str = Field(description="errors, ttft.p50, response_time.p99, quality.kl, ...")
    margin: Any = Field(
        None,
        description="how much worse than the baseline it may be: 10% for times, 3pp for errors",
        json_schema_extra={"type": "string"},
    )
    max: Any = Field(
        None,
        description="what it may never exceed: 250ms for times, 1% for errors, 0.06 (nats) for quality.kl",
        json_schema_extra={"type": ["string", "number"]},
    )

    @field_validator("metric", mode="after")
    @classmethod
    def _known(cls, value: str) -> str:
        return parse_metric(value)

    @model_validator(mode="after")
    def _one_rule(self) -> GateConfig:
        self.gate()
        return self

    def gate(self) -> Gate:
        """As the judge takes it; without margin and limit the metric's default margin."""
        margin, limit = margin_parser(self.metric), limit_parser(self.metric)
        if self.margin is not None and self.max is not None:
            raise Wrong("give margin or max, not both", "max")
        if self.max is not None:
            if limit is None:
                raise Wrong(f"{self.metric} takes a margin, not max", "max")
            return Gate(self.metric, limit=_at("max", limit, self.max))
        if margin is None:
            example = "0.06" if self.metric.startswith("quality.kl") else "5%"
            raise Wrong(f"{self.metric} needs max (such as max: {example})")
        value = _at("margin", margin, self.margin) if self.margin is not None else None
        if self.metric == "errors":
            return Gate("errors", value or metrics.DEFAULT_ERROR_MARGIN, "absolute")
        return Gate(self.metric, value or metrics.DEFAULT_MARGIN)


class GateField:
    """Lets pydantic read a GateConfig and keep the Gate of `harness.types`."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(
            lambda config: config.gate(),
            handler.generate_schema(GateConfig),
            serialization=core_schema.plain_serializer_function_ser_schema(_gate_json),
        )


def _gate_json(gate: Gate) -> dict[str, Any]:
    if gate.limit is not None:
        return {"metric": gate.metric, "max": limit_text(gate.metric, gate.limit)}
    assert gate.margin is not None
    return {"metric": gate.metric, "margin": margin_text(gate.metric, gate.margin)}


class StageConfig(Section):
    """One stage: a mode, a load, a time."""

    mode: Mode = Field(
        description="paired: every prompt to both at once; interleaved: in random order; split: by share"
    )
    duration_s: Duration = Field(alias="for", description="how long")
    in_flight: int | None = Field(
        None, ge=1, le=10_000, description="closed loop: requests (in paired mode pairs) that are under way"
    )
    rate: Rate | None = Field(None, description="open loop: requests (in paired mode pairs) a second")
    arrival: Literal["poisson", "constant"] | None = Field(None, description="with a rate; otherwise load.arrival")
    candidate: Share | None = Field(None, description="in split mode: the candidate's share of the requests")

    @model_validator(mode="after")
    def _fits(self) -> StageConfig:
        between(self.duration_s, 0.001, 7 * DAY_S, "for")
        one_load(self.in_flight, self.rate)
        if self.in_flight is not None and self.arrival is not None:
            raise Wrong("needs a rate: with in_flight a request leaves when another has ended", "arrival")
        if self.mode == "split" and self.candidate is None:
            raise Wrong("a split needs the candidate's share (such as candidate: 10%)")
        if self.mode != "split" and self.candidate is not None:
            raise Wrong(f"only a split has shares; {self.mode} gives both arms the same", "candidate")
        return self

    @property
    def share(self) -> float:
        """The candidate's share of the requests: 0.5 unless the stage splits."""
        return 0.5 if self.candidate is None else self.candidate


class DeployConfig(Section):
    """The candidate is brought while the baseline serves: a first stage in which all traffic stays with it."""

    in_flight: int | None = Field(None, ge=1, le=10_000, description="closed loop: requests that are under way")
    rate: Rate | None = Field(None, description="open loop: requests a second")
    within_s: Duration = Field(300.0, alias="within", description="until the candidate is loaded, at most this long")

    @model_validator(mode="after")
    def _fits(self) -> DeployConfig:
        between(self.within_s, 5.0, DAY_S, "within")
        one_load(self.in_flight, self.rate)
        return self


class OnFailConfig(Section):
    """What is done after a rollback verdict, traffic first."""

    route: Literal["baseline"] = Field("baseline", description="all traffic back to the baseline")
    unload: Literal["candidate"] | None = Field(None, description="then the candidate is unloaded")


class OnPromoteConfig(Section):
    """What is done after the last stage said promote."""

    keep_baseline_s: Duration | None = Field(
        None, alias="keep_baseline", description="watch this long with the baseline still loaded"
    )
    then: Literal["unload"] | None = Field(None, description="unload: the baseline is unloaded")

    @model_validator(mode="after")
    def _bounded(self) -> OnPromoteConfig:
        if self.keep_baseline_s is not None:
            between(self.keep_baseline_s, 0.001, DAY_S, "keep_baseline")
        return self


class TelemetryConfig(Section):
    """What is measured beside the requests."""

    interval_s: Duration = Field(1.0, alias="interval", description="how often GPU, server and host are read")

    @model_validator(mode="after")
    def _bounded(self) -> TelemetryConfig:
        between(self.interval_s, 0.05, 3600.0, "interval")
        return self


def one_load(in_flight: int | None, rate: float | None) -> None:
    """Raises Wrong unless the load is given, and in one way."""
    if in_flight is None and rate is None:
        raise Wrong("give rate (such as rate: 1/s) or in_flight (such as in_flight: 1), found neither")
    if in_flight is not None and rate is not None:
        raise Wrong("give rate or in_flight, not both", "in_flight")
    if rate is not None and rate > 1_000_000:
        raise Wrong("expected at most 1000000/s", "rate")


def _at(key: str, parse: Any, value: Any) -> float:
    try:
        return float(parse(value))
    except ValueError as error:
        raise Wrong(str(error), key) from error
