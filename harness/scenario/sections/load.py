"""What is sent: prompts or tensors, at what times, by how many workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from harness.scenario.fields import DAY_S, Burstiness, Duration, Factor, Section, Shape, Tokens, Wrong, between, path_of
from harness.scenario.inputs import read_inputs
from harness.scenario.prompts import read_prompts
from harness.scenario.sections.stage import OpenArrival
from harness.scenario.trace import Row, read_trace
from harness.types import Prompt

T = TypeVar("T")


class SyntheticConfig(Section):
    """Prompts made up from the seed, of given lengths in tokens."""

    prompts: int = Field(200, ge=1, le=100_000, description="how many different ones")
    input_tokens: Tokens = Field(description="their length: 512, uniform 100 1000, normal 512 50 or lognormal 512 0.4")
    output_tokens: Tokens | None = Field(None, description="max_tokens of each, likewise; otherwise load.max_tokens")
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="tokenizer.json to count with; otherwise a rule of thumb; from the file's folder",
    )

    @field_validator("tokenizer", mode="after")
    @classmethod
    def _from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, "load.synthetic.tokenizer", info) if value else value


class LoadConfig(Section):
    """What is sent."""

    prompts: str | None = Field(
        None,
        min_length=1,
        description='JSON lines of {"prompt": "..."}, max_tokens beside it where it differs; from the folder of the '
        "scenario file",
    )
    synthetic: SyntheticConfig | None = Field(None, description="prompts made up from the seed, instead of a file")
    trace: str | None = Field(
        None,
        min_length=1,
        description="a recorded load to replay: CSV or JSON lines of times with input and output lengths "
        "(Azure's and Mooncake's columns are known); from the file's folder",
    )
    speed: Factor = Field(1.0, description="replay the trace this much faster: 2x")
    inputs: str | None = Field(
        None,
        min_length=1,
        description="what models without prompts are sent: JSON lines of {input: values}; otherwise seeded noise",
    )
    shapes: dict[str, Shape] = Field(
        default_factory=dict, description="sizes for an input's free dimensions: {image: [3, 224, 224]}"
    )
    max_tokens: int = Field(16, ge=1, le=1_000_000, description="output tokens a request at most")
    timeout_s: Duration = Field(30.0, alias="timeout", description="after this a request is a time-out")
    logprobs: int = Field(
        0, ge=0, le=1000, description="top-k log-probabilities to ask for; 10 where a gate judges quality"
    )
    arrival: OpenArrival = Field("poisson", description="how the requests of a stage with a rate are spaced")
    burstiness: Burstiness | None = Field(
        None, description="shape of gamma arrivals: 1 is Poisson, below it bursts, above it they come more evenly"
    )
    cache: Literal["as-is", "unique", "warm"] = Field(
        "as-is", description="unique: no two prompts begin alike; warm: each arm is asked every prompt once before"
    )
    chunks: bool = Field(False, description="keep the arrival time of every streamed chunk")
    connections: int | None = Field(
        None, ge=1, le=10_000, description="to each arm at most; otherwise as many as needed"
    )
    workers: int = Field(
        1, ge=1, le=256, description="load generators on this machine, each with its share of the plan"
    )
    on_worker_lost: Literal["continue", "stop"] = Field(
        "stop", description="when a worker is lost in mid-run; continue: the others go on with their own shares"
    )
    _listed: tuple[Prompt, ...] = PrivateAttr(default=())
    _rows: tuple[Row, ...] = PrivateAttr(default=())
    _given: tuple[Mapping[str, Any], ...] = PrivateAttr(default=())

    @property
    def listed(self) -> tuple[Prompt, ...]:
        """The prompts of the file; () where there is none."""
        return self._listed

    @property
    def rows(self) -> tuple[Row, ...]:
        """The trace as it was recorded; () where there is none."""
        return self._rows

    @cached_property
    def due_ns(self) -> tuple[int, ...]:
        """When the rows of the trace are due, at the speed that is asked for."""
        return tuple(int(row.t_ns / self.speed) for row in self._rows)

    @property
    def given(self) -> tuple[Mapping[str, Any], ...]:
        """The inputs of the file, as `inputs.read_inputs` has them; () where there is none."""
        return self._given

    @property
    def asks(self) -> bool:
        """There are prompts, wherever they come from."""
        return any((self.prompts, self.synthetic, self.trace))

    @field_validator("timeout_s", mode="after")
    @classmethod
    def _bounded(cls, value: float) -> float:
        between(value, 0.001, DAY_S)
        return value

    @field_validator("prompts", "trace", "inputs", mode="after")
    @classmethod
    def _from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, f"load.{info.field_name}", info) if value else value

    @model_validator(mode="after")
    def _fits(self) -> LoadConfig:
        sources = [key for key in ("prompts", "synthetic", "trace", "inputs") if getattr(self, key) is not None]
        if len(sources) > 1:
            raise Wrong(f"give {sources[0]} or {sources[1]}, not both", sources[1])
        if self.trace is None and self.speed != 1:
            raise Wrong("only a trace is replayed; add trace, or remove speed", "speed")
        if self.burstiness is not None and self.arrival != "gamma":
            raise Wrong(f"only gamma arrivals have it; found arrival: {self.arrival}", "burstiness")
        if self.cache == "unique" and not self.asks:
            raise Wrong("what is made unique is a prompt: give prompts, synthetic or trace", "cache")
        if self.prompts is not None:
            self._listed = _from("prompts", read_prompts, self.prompts)
        if self.trace is not None:
            self._rows = _from("trace", read_trace, self.trace)
        if self.inputs is not None:
            self._given = _from("inputs", read_inputs, self.inputs)
        return self


def _from(key: str, read: Callable[[Path], T], path: str) -> T:
    try:
        return read(Path(path))
    except ValueError as error:
        raise Wrong(str(error), key) from error
