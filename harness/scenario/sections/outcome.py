"""What follows from the verdict, and what is measured beside the load."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.scenario.fields import DAY_S, Duration, Section, Wrong, between

Command = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
"""A program and its arguments; no shell."""


class ScaleConfig(Section):
    """Commands that give the stable version more room and the canary less; running them twice does no harm."""

    up: Command | None = Field(None, description="scales the baseline up; runs while traffic moves to it")
    down: Command | None = Field(None, description="scales the candidate down, once it has no traffic")

    @model_validator(mode="after")
    def _something(self) -> ScaleConfig:
        if self.up is None and self.down is None:
            raise Wrong("give up, down or both: a program and its arguments such as [kubectl, scale, ...]")
        return self


class OnFailConfig(Section):
    """What is done after a rollback verdict, traffic first."""

    route: Literal["baseline"] = Field("baseline", description="all traffic back to the baseline")
    drain_s: Duration | None = Field(
        None, alias="drain", description="then wait until the candidate has answered what it has, at most this long"
    )
    cut: bool = Field(False, description="and end at the ingress what it has not answered by then")
    unload: Literal["candidate"] | None = Field(None, description="then the candidate is unloaded")
    stop: Literal["candidate"] | None = Field(None, description="then the candidate's own server is stopped")
    scale: ScaleConfig | None = Field(None, description="or commands that scale: the baseline up, the candidate down")

    @model_validator(mode="after")
    def _fits(self) -> OnFailConfig:
        if self.drain_s is not None:
            between(self.drain_s, 0.001, 3600.0, "drain")
        if self.cut and self.drain_s is None:
            raise Wrong("what is left after the drain is cut: give drain (such as drain: 10s), too", "cut")
        if self.unload and self.stop:
            raise Wrong("a server that is stopped serves nothing: remove unload", "unload")
        return self


class OnPromoteConfig(Section):
    """What is done after the last stage said promote."""

    keep_baseline_s: Duration | None = Field(
        None, alias="keep_baseline", description="watch this long with the baseline still loaded"
    )
    then: Literal["unload", "stop"] | None = Field(
        None, description="unload: the baseline is unloaded; stop: its own server is stopped"
    )

    @model_validator(mode="after")
    def _bounded(self) -> OnPromoteConfig:
        if self.keep_baseline_s is not None:
            between(self.keep_baseline_s, 0.001, DAY_S, "keep_baseline")
        return self


class TelemetryConfig(Section):
    """What is measured beside the requests."""

    interval_s: Duration = Field(1.0, alias="interval", description="how often server and host are read")
    gpu_interval_s: Duration = Field(0.1, alias="gpu_interval", description="how often this machine's GPUs are read")

    @model_validator(mode="after")
    def _bounded(self) -> TelemetryConfig:
        between(self.interval_s, 0.05, 3600.0, "interval")
        between(self.gpu_interval_s, 0.01, 3600.0, "gpu_interval")
        return self
