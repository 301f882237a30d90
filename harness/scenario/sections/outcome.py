"""What follows from the verdict, and what is measured beside the load."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.scenario.fields import DAY_S, Duration, Section, between


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
