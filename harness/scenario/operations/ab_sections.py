"""The sections of an ab-test: its arms, its metrics, and the router that honours the header."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.scenario import metrics, quality
from harness.scenario.fields import ControlUrl, MemoryLimit, Section, Wrong
from harness.scenario.operations.metered import Metered
from harness.scenario.sections import CalledConfig, TlsConfig
from harness.scenario.sections.ingress import Controls
from harness.units import format_percent

TIMES = tuple(name for name in metrics.LATENCY if name.partition(".")[0] in metrics.REQUEST_TIMES)
DEFAULT = {"errors": "1pp", "quality": "5pp"}
"""Margins, where none is given; of everything else 10%."""


class AbTarget(Metered):
    """Where the arms serve, unless they have a url of their own."""

    server: Literal["embedded"] | None = Field(None, description="embedded: a Triton is started for the run")
    url: ControlUrl | None = Field(None, description="a Triton that runs already, and serves each arm without a url")

    @model_validator(mode="after")
    def _one_place(self) -> AbTarget:
        if self.server is not None and self.url is not None:
            raise Wrong("the embedded server has its own url; give server or url, not both", "url")
        return self


class AbLimits(Section):
    """What the servers may need meanwhile, whichever arm is better."""

    memory: MemoryLimit | None = Field(
        None, description="the most that a peak of it may be, of both arms together: 90% of what there is, or 40GiB"
    )


class AbArm(CalledConfig):
    """A or B: a version, a model, or a server."""

    url: ControlUrl | None = Field(
        None, description="this arm's own server; otherwise target.url. With an ingress it is only asked of the model"
    )
    over: Literal["http", "grpc"] | None = Field(None, description="embedded server only: the address to call it at")

    @field_validator("tls", mode="after")
    @classmethod
    def _certificates(cls, value: TlsConfig | None, info: ValidationInfo) -> TlsConfig | None:
        return value.seen_from("tls", info) if value else value

    @property
    def words(self) -> str:
        """`llm version 2 at http://host:8000`."""
        version = f" version {self.version}" if self.version is not None else ""
        return f"{self.model}{version}{f' at {self.url}' if self.url else ''}"


class AbIngress(Section):
    """A router that sends requests by the header. The harness plays the gateway before it, which sets the header."""

    server: Literal["haproxy", "envoy"] | None = Field(
        None, description="a real one is started for the run, in front of the embedded Triton"
    )
    url: ControlUrl | None = Field(None, description="of one that runs already: where requests go in")
    control: Controls | None = Field(
        None, strict=False,
        description="how its header rules are changed: haproxy+unix:///run/haproxy/admin.sock?backend=llm&headers=MAP; "
        "they are put back afterwards; without it the router has its rules already",
    )  # fmt: skip
    served_by: str = Field(
        "x-served-by", pattern=r"^[A-Za-z0-9-]+$", description="the field of its answers that says who answered"
    )  # fmt: skip

    @model_validator(mode="after")
    def _one_way(self) -> AbIngress:
        if self.server is None and self.url is None:
            raise Wrong("give server: haproxy or envoy, or the url of one that runs already")
        for key in ("url", "control"):
            if self.server is not None and getattr(self, key) is not None:
                raise Wrong(f"the one that is started has its own {key}; give server or {key}, not both", key)
        return self


class AbMetric(Section):
    """What is compared, and how large a difference has to be to matter."""

    metric: str = Field(description="errors, response_time.p50, ttft.p95, tpot.mean, osl, quality.score.NAME, ...")
    margin: Any = Field(
        None, description="a difference within it does not matter: 10% for times and osl, 1pp for errors, 5pp for "
        "scores", json_schema_extra={"type": "string"},
    )  # fmt: skip
    better: Literal["lower", "higher"] | None = Field(
        None, description="of osl only, of which otherwise neither is better: which arm is named where they differ"
    )

    @field_validator("metric", mode="after")
    @classmethod
    def _known(cls, value: str) -> str:
        full = f"{value}.p50" if value in metrics.REQUEST_TIMES else value
        if full not in (*TIMES, "errors", "osl") and quality.scorer_of(full) is None:
            times, statistics = ", ".join(metrics.REQUEST_TIMES), ", .".join(metrics.STATISTICS)
            raise ValueError(
                f"expected errors, osl, quality.score.NAME, or {times} with .{statistics}; found {value!r}"
            )
        return full

    @model_validator(mode="after")
    def _fits(self) -> AbMetric:
        if self.better is not None and self.metric != "osl":
            raise Wrong(f"of {self.metric} it is known which is better; remove it", "better")
        try:
            allowed = self.allowed
        except ValueError as error:
            raise Wrong(str(error), "margin") from error
        if not 0 < allowed < 10:
            raise Wrong(f"expected a margin above 0% and below 1000%, found {self.margin!r}", "margin")
        return self

    @property
    def in_points(self) -> bool:
        """A share, whose difference counts; of everything else it is the ratio."""
        return self.metric == "errors" or quality.scorer_of(self.metric) is not None

    @property
    def allowed(self) -> float:
        """The margin as a number. Raises ValueError."""
        default = DEFAULT.get(self.metric.partition(".")[0], "10%")
        parse = metrics.margin_parser(self.metric)
        assert parse is not None
        return parse(default if self.margin is None else self.margin)

    @property
    def direction(self) -> str:
        """lower, higher, or "" where neither is better."""
        if self.metric == "osl":
            return self.better or ""
        return "higher" if quality.scorer_of(self.metric) is not None else "lower"

    @property
    def words(self) -> str:
        """`response_time.p50 within 10%`."""
        return f"{self.metric} within {metrics.margin_text(self.metric, self.allowed)}"

    def check_share(self, share_b: float, *at: str | int) -> None:
        """Raises Wrong where arms of unequal load would compare queues, and not what serves."""
        if self.metric in TIMES and not 0.45 <= share_b <= 0.55:
            share = format_percent(share_b)
            raise Wrong(f"{self.metric} needs a split at 50%, found {share}: unequal loads compare queues", *at)
