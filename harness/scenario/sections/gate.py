"""What is demanded of the candidate."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator
from pydantic_core import core_schema

from harness.scenario import metrics
from harness.scenario.fields import Section, Wrong
from harness.scenario.metrics import limit_parser, limit_text, margin_parser, margin_text, parse_metric
from harness.types import Gate


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


def _at(key: str, parse: Any, value: Any) -> float:
    try:
        return float(parse(value))
    except ValueError as error:
        raise Wrong(str(error), key) from error
