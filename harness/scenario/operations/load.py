"""What an operation sends to a model that it measures."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from harness.scenario.fields import Rate, Wrong, path_of
from harness.scenario.prompts import read_prompts
from harness.scenario.sections import SendingConfig
from harness.scenario.sections.level import MOST_IN_FLIGHT, MOST_RATE
from harness.types import Prompt, StagePlan
from harness.units import format_rate


class AskingConfig(SendingConfig):
    """What is asked, whatever the load."""

    prompts: str | None = Field(
        None, min_length=1, description='JSON lines of {"prompt": "..."}: for its one text input; otherwise noise'
    )

    _read: tuple[Prompt, ...] = PrivateAttr(default=())

    @property
    def texts(self) -> tuple[Prompt, ...]:
        """The prompts of the file, () where there is none."""
        return self._read

    @field_validator("prompts", mode="after")
    @classmethod
    def _from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, "prompts", info) if value else value

    @model_validator(mode="after")
    def _asks(self) -> AskingConfig:
        if self.prompts is not None:
            try:
                self._read = tuple(read_prompts(Path(self.prompts)))
            except ValueError as error:
                raise Wrong(str(error), "prompts") from error
        elif self.cache == "unique":
            raise Wrong("what is made unique is a prompt: give prompts", "cache")
        return self


class SentLoad(AskingConfig):
    """Requests to one model: so many a second (Poisson), or so many under way."""

    rate: Rate | None = Field(None, description="open loop: requests a second, spaced at random (Poisson)")
    in_flight: int | None = Field(None, ge=1, le=MOST_IN_FLIGHT, description="closed loop: requests under way")

    @property
    def words(self) -> str:
        """`20/s`, `4 in flight`."""
        return format_rate(self.rate) if self.rate is not None else f"{self.in_flight} in flight"

    def stage(self, index: int, duration_s: float) -> StagePlan:
        """All of it to the baseline: an operation has one arm."""
        return StagePlan(
            index=index, mode="split", arrival="closed" if self.rate is None else "poisson", duration_s=duration_s,
            candidate_share=0.0, in_flight=self.in_flight, rate=self.rate,
        )  # fmt: skip

    @model_validator(mode="after")
    def _one_load(self) -> SentLoad:
        if (self.rate is None) == (self.in_flight is None):
            raise Wrong("give rate (such as rate: 20/s) or in_flight (such as in_flight: 4), and only one of them")
        if self.rate is not None and self.rate > MOST_RATE:
            raise Wrong("expected at most 1000000/s", "rate")
        return self
