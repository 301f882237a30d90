"""What is sent: prompts or tensors, at what times, by how many workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from harness.scenario.fields import Burstiness, Factor, Section, Shape, Tokens, Wrong, path_of
from harness.scenario.inputs import read_inputs
from harness.scenario.prompts import read_prompts
from harness.scenario.sections.sending import SendingConfig
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
        description="the same as load.tokenizer",
    )

    @field_validator("tokenizer", mode="after")
    @classmethod
    def _from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, "load.synthetic.tokenizer", info) if value else value


class LoadConfig(SendingConfig):
    """What is sent."""

    prompts: str | None = Field(
        None,
        min_length=1,
        description='JSON lines of {"prompt": "..."}, max_tokens beside it where it differs, and expected for scorers: '
        "for a model's one text input; from the folder of the scenario file",
    )
    synthetic: SyntheticConfig | None = Field(None, description="prompts made up from the seed, instead of a file")
    trace: str | None = Field(
        None,
        min_length=1,
        description="a recorded load to replay: CSV or JSON lines of times with input and output lengths "
        "(Azure's and Mooncake's columns are known); from the file's folder",
    )
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="the model's tokenizer.json: lengths of made-up prompts are in its tokens (otherwise in words); "
        "it counts what an engine does not; from the file's folder",
    )
    speed: Factor = Field(1.0, description="replay the trace this much faster: 2x")
    inputs: str | None = Field(
        None,
        min_length=1,
        description="what models without prompts are sent: JSON lines of {input: values}; otherwise seeded noise",
    )
    shapes: dict[str, Shape] = Field(
        default_factory=dict,
        description="sizes for an input's free dimensions, or its whole shape: {image: [3, 224, 224]}, "
        "with a batch in front of it or not",
    )
    logprobs: int = Field(
        0, ge=0, le=1000, description="top-k log-probabilities to ask for; 10 where a gate judges quality"
    )
    outputs: bool = Field(
        False,
        description="keep every answer, also where no gate asks for it: its text, or its digest, shape and vector; "
        "quality is then told for information",
    )
    arrival: OpenArrival = Field("poisson", description="how the requests of a stage with a rate are spaced")
    burstiness: Burstiness | None = Field(
        None, description="shape of gamma arrivals: 1 is Poisson, below it bursts, above it they come more evenly"
    )
    chunks: bool = Field(False, description="keep the arrival time of every streamed chunk")
    on_worker_lost: Literal["continue", "stop"] = Field(
        "stop", description="when a worker is lost in mid-run; continue: the others go on with their own shares"
    )
    _listed: tuple[Prompt, ...] = PrivateAttr(default=())
    _given: tuple[Mapping[str, Any], ...] = PrivateAttr(default=())

    @property
    def listed(self) -> tuple[Prompt, ...]:
        """The prompts of the file; () where there is none."""
        return self._listed

    @property
    def counts_with(self) -> Path | None:
        """The tokenizer.json, wherever it was given."""
        given = self.tokenizer or (self.synthetic.tokenizer if self.synthetic else None)
        return Path(given) if given else None

    def rows(self, until_s: float | None) -> tuple[Row, ...]:
        """Of the trace, as it was recorded; with `until_s` those that are due before then, at the speed that is asked
        for, and the next one. Raises as read_trace does.
        """
        if self.trace is None:
            return ()
        return read_trace(
            Path(self.trace), None if until_s is None else math.ceil(math.ceil(until_s * 1e9) * self.speed)
        )

    @property
    def given(self) -> tuple[Mapping[str, Any], ...]:
        """The inputs of the file, as `inputs.read_inputs` has them; () where there is none."""
        return self._given

    @property
    def asks(self) -> bool:
        """There are prompts, wherever they come from."""
        return any((self.prompts, self.synthetic, self.trace))

    @field_validator("prompts", "trace", "inputs", "tokenizer", mode="after")
    @classmethod
    def _from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, f"load.{info.field_name}", info) if value else value

    @model_validator(mode="after")
    def _fits(self) -> LoadConfig:
        sources = [key for key in ("prompts", "synthetic", "trace", "inputs") if getattr(self, key) is not None]
        if len(sources) > 1:
            raise Wrong(f"give {sources[0]} or {sources[1]}, not both", sources[1])
        if self.tokenizer and self.synthetic and self.synthetic.tokenizer:
            raise Wrong("give tokenizer or synthetic.tokenizer, not both", "tokenizer")
        if self.trace is None and self.speed != 1:
            raise Wrong("only a trace is replayed; add trace, or remove speed", "speed")
        if self.burstiness is not None and self.arrival != "gamma":
            raise Wrong(f"only gamma arrivals have it; found arrival: {self.arrival}", "burstiness")
        if self.cache == "unique" and not self.asks:
            raise Wrong("what is made unique is a prompt: give prompts, synthetic or trace", "cache")
        if self.tokenizer and not self.asks:
            raise Wrong("it counts what prompts ask and are answered: give prompts, synthetic or trace", "tokenizer")
        if self.prompts is not None:
            self._listed = _from("prompts", read_prompts, self.prompts)
        if self.inputs is not None:
            self._given = _from("inputs", read_inputs, self.inputs)
        return self


def _from(key: str, read: Callable[[Path], T], path: str) -> T:
    try:
        return read(Path(path))
    except ValueError as error:
        raise Wrong(str(error), key) from error
