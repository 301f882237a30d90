"""How requests are sent, whatever they ask: the same words in a canary's `load` and in an operation's loads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from harness.scenario.fields import DAY_S, Duration, Section, between


class SendingConfig(Section):
    """How requests are sent."""

    max_tokens: int = Field(16, ge=1, le=1_000_000, description="output tokens a request at most")
    timeout_s: Duration = Field(30.0, alias="timeout", description="after this a request is a time-out")
    cache: Literal["as-is", "unique", "warm"] = Field(
        "as-is", description="unique: no two prompts begin alike; warm: each arm is asked every prompt once before"
    )
    connections: int | None = Field(
        None, ge=1, le=10_000, description="to each arm at most; otherwise as many as needed"
    )
    workers: int = Field(
        1, ge=1, le=256, description="load generators on this machine, each with its share of the plan"
    )

    @field_validator("timeout_s", mode="after")
    @classmethod
    def _bounded(cls, value: float) -> float:
        between(value, 0.001, DAY_S)
        return value
