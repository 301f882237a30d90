"""find-max-load, as its file describes it."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.scenario import metrics
from harness.scenario.fields import DAY_S, ControlUrl, Duration, Levels, Section, Share, Wrong, between, memory_limit
from harness.scenario.operations.base import Operation
from harness.scenario.operations.load import AskingConfig, SentLoad
from harness.scenario.operations.metered import Metered
from harness.scenario.sections import CalledConfig, TlsConfig
from harness.scenario.sections.level import MOST_IN_FLIGHT, MOST_RATE
from harness.types import Gate
from harness.units import format_duration, format_level, format_percent

TRIAL_OVER_LIMIT = 20
"""A trial is at least this much longer than the longest limit: a queue takes time to become as long as it gets."""
MOST_CONFIDENCE = 0.9999


class SoughtServer(Metered):
    """The server that is asked."""

    server: Literal["embedded"] | None = Field(None, description="embedded: a Triton is started for the run")
    url: ControlUrl | None = Field(None, description="a Triton that runs already: http://host:8000, grpc://host:8001")

    @model_validator(mode="after")
    def _one_place(self) -> SoughtServer:
        if (self.server is None) == (self.url is None):
            raise Wrong("give server: embedded, or the url of a Triton that runs already, and only one of them")
        return self


class ObjectiveConfig(Section):
    """What has to hold for a load to count: a quantile of a time, the share of errors, goodput, or memory."""

    metric: str = Field(description="response_time.p99, ttft.p95, tpot.p50, ...; errors; goodput; memory.peak")
    max: Any = Field(
        None, description="of a time: 50ms; of errors: 1% of the requests; of memory.peak: 40GiB, or 90% of what there "
        "is", json_schema_extra={"type": "string"},
    )  # fmt: skip
    min: Share | None = Field(None, description="of goodput: the share of requests that hold every limit in `within`")
    within: dict[Literal["response_time", "request_latency", "ttft", "tpot"], Duration] = Field(
        default_factory=dict, description="of goodput: {ttft: 300ms, tpot: 50ms}"
    )

    @field_validator("metric", mode="after")
    @classmethod
    def _known(cls, value: str) -> str:
        full = f"{value}.p50" if value in metrics.REQUEST_TIMES else value
        known = metrics.quantile(full) is not None and full.partition(".")[0] in metrics.REQUEST_TIMES
        if full not in ("errors", "goodput", "memory.peak") and not known:
            times = ", ".join(metrics.REQUEST_TIMES)
            raise ValueError(
                f"expected errors, goodput, memory.peak, or {times} with .p50, .p90, .p95, .p99; found {value!r}"
            )
        return full

    @model_validator(mode="after")
    def _one_rule(self) -> ObjectiveConfig:
        if self.metric == "goodput":
            if self.max is not None:
                raise Wrong("goodput takes min (such as min: 99%) and within, not max", "max")
            if self.min is None or not 0 < self.min < 1:
                raise Wrong("goodput needs min above 0% and below 100% (such as min: 99%)")
            if not self.within:
                raise Wrong("goodput needs within (such as within: {ttft: 300ms, tpot: 50ms})")
            for name, limit in self.within.items():
                between(limit, 1e-6, DAY_S, "within", name)
            return self
        for key in ("min", "within"):
            if getattr(self, key):
                raise Wrong(f"only goodput has {key}; {self.metric} takes max", key)
        if self.max is None:
            example = {"errors": "1%", "memory.peak": "90%"}.get(self.metric, "50ms")
            raise Wrong(f"{self.metric} needs max (such as max: {example})")
        try:
            if self.memory is None:
                self._limit()
        except ValueError as error:
            raise Wrong(str(error), "max") from error
        return self

    @property
    def memory(self) -> Gate | None:
        """The limit on memory, where it is one. Raises ValueError."""
        return memory_limit(self.max) if self.metric == "memory.peak" else None

    @property
    def limits(self) -> dict[str, float]:
        """The most that each time of one request may be, seconds; {} for errors and memory."""
        if self.metric == "goodput":
            return {str(name): limit for name, limit in self.within.items()}
        return {} if self.metric in ("errors", "memory.peak") else {self.metric.partition(".")[0]: self._limit()}

    @property
    def allowed(self) -> float:
        """The share of requests that may be beyond the limits, of all but memory."""
        if self.metric == "errors":
            return self._limit()
        quantile = metrics.quantile(self.metric) if self.min is None else self.min
        assert quantile is not None
        return round(1 - quantile, 9)

    @property
    def words(self) -> str:
        """`response_time.p99 < 50ms`."""
        if self.metric != "goodput":
            return f"{self.metric} < {self.max}"
        limits = ", ".join(f"{name} {format_duration(limit)}" for name, limit in self.within.items())
        return f"{format_percent(1 - self.allowed)} within {limits}"

    def _limit(self) -> float:
        parse = metrics.limit_parser(self.metric)
        assert parse is not None
        limit = parse(self.max)
        if limit <= 0:
            raise ValueError(f"expected a share above 0%, found {self.max!r}: no trial is long enough to show it")
        return limit


class FindMaxLoad(Operation, AskingConfig, CalledConfig):
    """The highest load at which every objective holds: goodput, as DistServe defines it (Zhong et al., OSDI 2024)."""

    kind: Literal["find-max-load"]
    target: SoughtServer = Field(description="the server that is asked")
    over: Literal["http", "grpc"] | None = Field(None, description="embedded server only: the address to call it at")
    between: Levels = Field(
        description="where to look: [20/s, 2000/s] for a rate (Poisson), [1, 64] for requests in flight"
    )
    under: tuple[ObjectiveConfig, ...] = Field(
        strict=False, min_length=1, description="what has to hold, all of it: {metric: response_time.p99, max: 50ms}"
    )
    trial_s: Duration = Field(5.0, alias="trial", description="how long a load is tried; longer where it takes more")
    warm_up_s: Duration = Field(1.0, alias="warm_up", description="of each trial, not counted")
    precision: Share = Field(0.05, description="the search ends where what holds and what does not are this close")
    confidence: Share = Field(0.95, description="how sure a trial has to be that an objective holds")
    repeats: int = Field(2, ge=0, le=5, description="an undecided trial is repeated so often, twice as long each time")
    seed: int = Field(1, ge=0, lt=2**31, description="fixes the requests")

    @model_validator(mode="before")
    @classmethod
    def _nothing_from_a_cache(cls, data: Any) -> Any:
        """A prompt that comes again may be answered from a cache: then the rate of its hits would be found."""
        if isinstance(data, dict) and data.get("prompts") is not None and "cache" not in data:
            return {**data, "cache": "unique"}
        return data

    @field_validator("tls", mode="after")
    @classmethod
    def _certificates(cls, value: TlsConfig | None, info: ValidationInfo) -> TlsConfig | None:
        return value.seen_from("tls", info) if value else value

    @model_validator(mode="after")
    def _fits(self) -> FindMaxLoad:
        between(self.trial_s, 1.0, DAY_S, "trial")
        between(self.warm_up_s, 0.0, 3600.0, "warm_up")
        self._check_levels()
        if not 0.01 <= self.precision <= 0.5:
            raise Wrong(f"expected 1% to 50%, found {format_percent(self.precision)}", "precision")
        if not 0.5 <= self.confidence <= MOST_CONFIDENCE:
            raise Wrong(f"expected 50% to 99.99%, found {format_percent(self.confidence)}", "confidence")
        self._check_limits()
        for key in ("build", "over"):
            if not self.embedded and getattr(self, key) is not None:
                raise Wrong("only the embedded server has it; remove it", key)
        self.check_address(self.target.url)
        return self

    def _check_levels(self) -> None:
        if len(self.between) != 2:
            raise Wrong(f"expected two, [lowest, highest], found {len(self.between)}", "between")
        low, high = self.between
        if isinstance(low, int) != isinstance(high, int):
            raise Wrong("expected two rates, or two numbers in flight, found one of each", "between")
        most = MOST_IN_FLIGHT if isinstance(high, int) else MOST_RATE
        if high > most:
            raise Wrong(f"expected at most {format_level(most)}", "between", 1)
        if low >= high:
            raise Wrong(f"expected more than {format_level(low)}, found {format_level(high)}", "between", 1)

    def _check_limits(self) -> None:
        names = [objective.metric for objective in self.under]
        for index, objective in enumerate(self.under):
            if objective.metric in names[:index]:
                raise Wrong(f"{objective.metric} is there twice", "under", index)
        if not self.objectives:
            raise Wrong("expected errors, goodput or a time beside memory.peak: what requests have to hold", "under")
        for index, objective in enumerate(self.under):
            longest = max(objective.limits.values(), default=0.0)
            if longest >= self.timeout_s:
                shown = f"{format_duration(longest)} >= {format_duration(self.timeout_s)}"
                raise Wrong(f"a limit has to be shorter than the timeout, found {shown}", "under", index)
            if self.trial_s < TRIAL_OVER_LIMIT * longest:
                least = format_duration(math.ceil(TRIAL_OVER_LIMIT * longest))
                shown = f"{TRIAL_OVER_LIMIT} times the limit of {format_duration(longest)}"
                raise Wrong(f"expected at least {least} ({shown}), found {format_duration(self.trial_s)}", "trial")

    @property
    def embedded(self) -> bool:
        return self.target.server is not None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it is called, if that is no embedded server."""
        return () if self.target.url is None else (self.target.url,)

    @property
    def objectives(self) -> tuple[ObjectiveConfig, ...]:
        """What requests have to hold."""
        return tuple(objective for objective in self.under if objective.memory is None)

    @property
    def memory(self) -> Gate | None:
        """What their memory has to hold meanwhile."""
        return next((objective.memory for objective in self.under if objective.memory is not None), None)

    @property
    def open_loop(self) -> bool:
        """A rate is sought, and not a number in flight."""
        return isinstance(self.between[0], float)

    def load_at(self, level: float) -> SentLoad:
        """The load of a trial; `level` in requests a second, or a whole number in flight."""
        asked = self.model_dump(include=set(AskingConfig.model_fields))
        more = {"rate": format_level(float(level))} if self.open_loop else {"in_flight": int(level)}
        return SentLoad.model_validate({**asked, **more})

    @property
    def steps(self) -> tuple[str, ...]:
        low, high = map(format_level, self.between)
        unit = "" if self.open_loop else " in flight"
        where = "start a Triton with" if self.embedded else f"check that {self.target.url} serves"
        objectives = ", ".join(objective.words for objective in self.under)
        sure, close = map(format_percent, (self.confidence, self.precision))
        return (
            f"{where} {self.model}",
            *([self.target.reads(self.memory, self.urls)] if self.memory is not None else []),
            f"try {low}{unit}, twice that, and so on, up to {high}, until a trial misses: {objectives}",
            f"bisect between the last that did not miss and the first that did, down to {close}",
            f"each trial {format_duration(self.trial_s)} and longer, after {format_duration(self.warm_up_s)} of "
            f"warm-up; it holds where {sure} sure, and an undecided one is repeated up to {self.repeats} times",
            f"try the answer once more, for longer; where it does not hold with {sure} step down",
        )
