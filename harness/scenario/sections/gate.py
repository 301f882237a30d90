"""What is demanded of the candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator
from pydantic_core import core_schema

from harness.scenario import metrics, quality
from harness.scenario.fields import DAY_S, Duration, Section, Share, Wrong, between, memory_limit
from harness.scenario.metrics import limit_parser, limit_text, margin_parser, margin_text, parse_metric
from harness.types import Gate
from harness.units import format_duration, format_percent, parse_drop

Read = TypeVar("Read")


class GateConfig(Section):
    """One rule: a margin against the baseline, or a limit."""

    metric: str = Field(description="errors, ttft.p50, response_time.p99, quality.kl, goodput, memory.peak, ...")
    margin: Any = Field(
        None,
        description="how much worse than the baseline it may be: 10% for times, 3pp for errors; of a throughput, how "
        "far below it",
        json_schema_extra={"type": "string"},
    )
    max: Any = Field(
        None,
        description="what it may never exceed: 250ms for times, 1% for errors, 0.06 (nats) for quality.kl; for "
        "memory.peak 40GiB, or 90% of what the GPU has (of an instance's hard limit, of the host's memory)",
        json_schema_extra={"type": ["string", "number"]},
    )
    min: Share | None = Field(None, description="of goodput: the share of requests that hold every limit in `within`")
    within: dict[Literal["response_time", "request_latency", "ttft", "tpot"], Duration] = Field(
        default_factory=dict, description="of goodput: {ttft: 500ms, tpot: 50ms}"
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
        if self.metric == "goodput":
            return self._goodput()
        for key in ("min", "within"):
            if getattr(self, key):
                raise Wrong(f"only goodput has {key}; {self.metric} takes margin or max", key)
        margin, limit = margin_parser(self.metric), limit_parser(self.metric)
        if self.margin is not None and self.max is not None:
            raise Wrong("give margin or max, not both", "max")
        if self.max is not None:
            if self.metric == "memory.peak":
                return _at("max", memory_limit, self.max)
            if limit is None:
                raise Wrong(f"{self.metric} takes a margin, not max", "max")
            return Gate(self.metric, limit=_at("max", limit, self.max))
        if metrics.is_quality(self.metric) and (margin is None or self.margin is None):
            key = "max" if margin is None else "margin"
            raise Wrong(f"{self.metric} needs {key} (such as {quality.example(self.metric)})")
        if margin is None:
            raise Wrong(f"{self.metric} needs max (such as max: 1%)")
        value = _at("margin", margin, self.margin) if self.margin is not None else None
        if self.metric == "errors":
            return Gate("errors", value or metrics.DEFAULT_ERROR_MARGIN, "absolute")
        if metrics.is_quality(self.metric) and self.metric != "quality.perplexity":
            return Gate(self.metric, value, "absolute")
        return Gate(self.metric, metrics.DEFAULT_MARGIN if value is None else value)

    def _goodput(self) -> Gate:
        if self.max is not None:
            raise Wrong("goodput takes margin, or min (such as min: 99%), and within; not max", "max")
        if not self.within:
            raise Wrong("goodput needs within (such as within: {ttft: 500ms, tpot: 50ms})")
        for name, longest in self.within.items():
            between(longest, 1e-6, DAY_S, "within", name)
        within = {str(name): longest for name, longest in self.within.items()}
        if self.min is None:
            value = _at("margin", parse_drop, self.margin) if self.margin is not None else None
            return Gate("goodput", value or metrics.DEFAULT_MARGIN, within=within)
        if self.margin is not None:
            raise Wrong("give margin or min, not both", "min")
        if not 0 < self.min < 1:
            raise Wrong(f"expected a share above 0% and below 100%, found {format_percent(self.min)}", "min")
        return Gate("goodput", limit=round(1 - self.min, 12), within=within)


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
    within = {"within": {name: format_duration(limit) for name, limit in gate.within.items()}} if gate.within else {}
    if gate.limit is not None and within:
        return {"metric": gate.metric, "min": format_percent(round(1 - gate.limit, 12)), **within}
    if gate.limit is not None:
        return {"metric": gate.metric, "max": limit_text(gate)}
    assert gate.margin is not None
    return {"metric": gate.metric, "margin": margin_text(gate.metric, gate.margin), **within}


def _at(key: str, parse: Callable[[Any], Read], value: Any) -> Read:
    try:
        return parse(value)
    except ValueError as error:
        raise Wrong(str(error), key) from error
