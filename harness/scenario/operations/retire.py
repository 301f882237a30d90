"""retire-model, as its file describes it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.scenario.fields import MODEL, Duration, Rate, Wrong, between, path_of
from harness.scenario.operations.base import Operation
from harness.scenario.places import PlaceConfig, from_file
from harness.units import format_duration, format_rate

HOUR_S = 3600.0


class RetireModel(Operation):
    """Take out a version that nobody asks any more."""

    kind: Literal["retire-model"]
    target: PlaceConfig = Field(description="where it serves")
    model: str = Field(min_length=1, pattern=MODEL, description="the model's name in the repository")
    version: int = Field(ge=1, description="the version that goes")
    window_s: Duration = Field(10.0, alias="window", description="this long no request may arrive at it")
    then: Literal["archive", "remove"] = Field("archive", description="what becomes of its directory")
    archive: str | None = Field(None, min_length=1, description="the archive's folder; otherwise in that of the run")
    steady: Rate | None = Field(
        None, description="probes a second to the highest version that stays, during all of it; none: counters only"
    )
    stray: Rate | None = Field(
        None, description="embedded server only: requests a second that somebody still sends to the version"
    )

    @field_validator("target", mode="after")
    @classmethod
    def _from_file(cls, value: PlaceConfig, info: ValidationInfo) -> PlaceConfig:
        return from_file(value, "target", info)

    @field_validator("archive", mode="after")
    @classmethod
    def _archive_from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, "archive", info) if value else value

    @model_validator(mode="after")
    def _fits(self) -> RetireModel:
        between(self.window_s, 0.5, HOUR_S, "window")
        if self.archive is not None and self.then != "archive":
            raise Wrong(f"then: {self.then} makes no archive; remove archive", "archive")
        for key in ("steady", "stray"):
            if (getattr(self, key) or 0.0) > 200:
                raise Wrong("expected at most 200/s", key)
        if self.stray is not None and not self.embedded:
            raise Wrong("only the embedded server gets strays that are made for it", "stray")
        return self

    @property
    def embedded(self) -> bool:
        return self.target.server is not None

    @property
    def steps(self) -> tuple[str, ...]:
        going = f"{self.model} version {self.version}"
        stray = f"; send {format_rate(self.stray)} to version {self.version}" if self.stray else ""
        first = f"start a Triton that serves {going} and version {self.version + 1}{stray}"
        steady = f"send {format_rate(self.steady)} to what stays, until the end" if self.steady else ""
        return (
            first if self.embedded else f"check that {going} serves on {self.target.place}, and another version too",
            *([steady] if steady else []),
            f"watch Triton's counters for {format_duration(self.window_s)}: a request at version {self.version}, "
            "whoever sends it, ends it here and nothing is changed",
            f"unload version {self.version}, and see that Triton confirms it",
            f"{self.then} its directory",
            "what stays answered every request meanwhile",
        )
