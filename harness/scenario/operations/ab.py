"""ab-test, as its file describes it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from harness.scenario import quality
from harness.scenario.fields import Duration, Share, Wrong, between
from harness.scenario.operations.ab_sections import AbArm, AbIngress, AbLimits, AbMetric, AbTarget
from harness.scenario.operations.ab_units import too_few
from harness.scenario.operations.base import Operation
from harness.scenario.operations.load import SentLoad
from harness.scenario.plan.experiment import drawn, of_prompts
from harness.scenario.prompts import read_units
from harness.scenario.sections import ScorerConfig
from harness.types import Arm, ArmName, Experiment
from harness.units import format_duration, format_percent

MOST_UNITS = 1_000_000
ARMS: dict[ArmName, Literal["A", "B"]] = {"baseline": "A", "candidate": "B"}
"""The header's values, by what files of a run call the arms."""


class AbTest(Operation):
    """Two arms, each with units (users, sessions) of its own: which is better, and is that more than chance?"""

    kind: Literal["ab-test"]
    target: AbTarget = Field(default_factory=AbTarget, description="where the arms serve")
    a: AbArm = Field(description="the arm of requests with the header's value A")
    b: AbArm = Field(description="the arm of requests with the header's value B")
    ingress: AbIngress | None = Field(
        None, description="a router that honours the header; without one each arm is called at its own address"
    )
    header: str = Field("x-experiment", pattern=r"^[A-Za-z0-9-]+$", description="the header that names the arm")
    units: int | None = Field(
        None,
        ge=2,
        le=MOST_UNITS,
        description="how many users there are; otherwise each prompt names its `unit`",
    )
    activity: float = Field(
        0.0, ge=0, le=2, strict=False,
        description="0: every unit is as active; 1: the n-th most active sends 1/n as much as the first (Zipf)",
    )  # fmt: skip
    labelled: Share = Field(0.0, description="units whose client sends the header itself, half A and half B")
    split: Share = Field(0.5, description="B's share of the other units, which the hash assigns")
    salt: str | None = Field(
        None, min_length=1, description="another one deals the units out anew; otherwise the scenario's name"
    )
    analyse: Literal["hashed", "all"] = Field(
        "hashed", description="hashed: effects are of units that the hash assigned; all: labelled ones count, too, "
        "which is sound only where their labels were given at random",
    )  # fmt: skip
    load: SentLoad = Field(description="what all units send together")
    duration_s: Duration = Field(60.0, alias="for", description="how long it is measured")
    warm_up_s: Duration = Field(2.0, alias="warm_up", description="before that, not counted")
    metrics: tuple[AbMetric, ...] = Field(
        (AbMetric(metric="errors"), AbMetric(metric="response_time.p50")), strict=False, min_length=1,
        description="what is compared; errors always are",
    )  # fmt: skip
    limits: AbLimits = Field(default_factory=AbLimits, description="what the servers may need meanwhile")
    scorers: dict[str, ScorerConfig] = Field(
        default_factory=dict, description="who says how good an answer is, by name: {answer: {use: exact}}"
    )
    seed: int = Field(1, ge=0, lt=2**31, description="fixes the requests and the resampling")

    _named: tuple[tuple[str, str], ...] = PrivateAttr(default=())

    @field_validator("metrics", mode="after")
    @classmethod
    def _errors_too(cls, value: tuple[AbMetric, ...]) -> tuple[AbMetric, ...]:
        """Without them an arm that fails its slow requests would look fast."""
        if any(one.metric == "errors" for one in value):
            return value
        return (*value, AbMetric(metric="errors"))

    @model_validator(mode="after")
    def _fits(self) -> AbTest:
        between(self.duration_s, 1.0, 7 * 86400.0, "for")
        between(self.warm_up_s, 0.0, 3600.0, "warm_up")
        self._check_arms()
        self._check_units()
        if not 0.01 <= self.split <= 0.99:
            raise Wrong(f"expected 1% to 99%, found {format_percent(self.split)}", "split")
        if self.analyse == "hashed" and self.labelled > 0.9:
            raise Wrong("with analyse: hashed these units say nothing; expected at most 90%", "labelled")
        self._check_metrics()
        return self

    def _check_arms(self) -> None:
        for name, arm in (("a", self.a), ("b", self.b)):
            if self.embedded and arm.url is not None:
                raise Wrong("the embedded server has its own url; give target.server or url, not both", name, "url")
            for key in ("build", "over"):
                if not self.embedded and getattr(arm, key) is not None:
                    raise Wrong("only the embedded server has it; remove it", name, key)
            if self.ingress is not None and arm.over is not None:
                raise Wrong("requests go in at the ingress, over HTTP; remove it", name, "over")
            if not self.embedded and self.server(arm) is None and not (self.ingress and arm.api == "openai"):
                what = (
                    "the Triton behind the ingress, which is asked what the model is" if self.ingress else "where it is"
                )
                raise Wrong(f"give target: {{server: embedded}}, or target.url or url: {what}", name, "url")
            arm.check_address(self.ingress.url if self.ingress else self.server(arm), name)
        if self.ingress is not None:
            self._check_ingress(self.ingress)
        elif self._same(self.a) == self._same(self.b):
            raise Wrong("expected two versions, two models or two servers, found the same twice", "b")

    def _check_ingress(self, ingress: AbIngress) -> None:
        if (ingress.server is not None) != self.embedded:
            raise Wrong("the embedded server and an ingress that is started go together; or give both urls", "ingress")
        if self.a.model != self.b.model:
            raise Wrong("an ingress routes requests for one model: both arms have it under the same name", "b", "model")
        if self.embedded and (self.a.version is None or self.b.version is None or self.a.version == self.b.version):
            raise Wrong("two versions of the embedded server's model are needed, by number", "b", "version")
        if self.embedded and self.header.lower() != "x-experiment":
            raise Wrong("the router that is started goes by x-experiment; remove it", "header")

    def _check_units(self) -> None:
        named = read_units(Path(self.load.prompts)) if self.load.prompts is not None else ()
        if self.units is None and not named:
            raise Wrong('give units (such as units: 400), or load.prompts whose lines name their "unit"', "units")
        if self.units is not None and named:
            raise Wrong("the prompts name their own units; remove it", "units")
        for key in ("activity", "labelled"):
            if named and getattr(self, key):
                raise Wrong("the prompts say it of their units; remove it", key)
        self._named = named

    def _check_metrics(self) -> None:
        names = [one.metric for one in self.metrics]
        for index, one in enumerate(self.metrics):
            if one.metric in names[:index]:
                raise Wrong(f"{one.metric} is there twice", "metrics", index)
            one.check_share(self.split, "metrics", index)
            scorer = quality.scorer_of(one.metric)
            if scorer is not None and (not scorer or scorer not in self.scorers):
                known = ", ".join(self.scorers) or "none"
                raise Wrong(f"expected quality.score. and the name of a scorer ({known})", "metrics", index)
        for name, config in self.scorers.items():
            if not re.fullmatch(quality.SCORER, name):
                raise Wrong("expected a name of small letters, digits, _ -", "scorers", name)
            if not self.load.texts:
                raise Wrong("needs load.prompts: what is scored is the answer to one", "scorers", name)
            if config.expects and all(prompt.expected is None for prompt in self.load.texts):
                raise Wrong(f"{config.use} needs expected answers in load.prompts", "scorers", name)

    @property
    def embedded(self) -> bool:
        return self.target.server is not None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where the arms serve that are not on the embedded server."""
        return tuple(url for arm in self.arms.values() if (url := self.server(arm)) is not None)

    @property
    def arms(self) -> dict[ArmName, AbArm]:
        return {"baseline": self.a, "candidate": self.b}

    def arm(self, name: ArmName, url: str) -> Arm:
        """It, called at this address with the header. Through an ingress no version is named: the router decides."""
        config = self.arms[name]
        if self.ingress is not None:
            config = config.model_copy(update={"version": None})
        called = config.model_copy(update={"headers": {**config.headers, self.header: ARMS[name]}})
        return called.arm(url)

    def experiment(self) -> Experiment:
        """The arm of every unit. Pure: the same on any machine."""
        salt = self.salt or self.name
        if self._named:
            return of_prompts(self._named, salt, self.split)
        assert self.units is not None
        return drawn(self.units, salt, self.split, self.labelled, self.activity)

    @property
    def steps(self) -> tuple[str, ...]:
        where = "start a Triton that serves" if self.embedded else "check that there is"
        units = f"{self.units} units" if self.units is not None else "the units that the prompts name"
        labelled = f", {format_percent(self.labelled)} of them labelled by their clients" if self.labelled else ""
        through = "to the arm at its own address, with the header"
        if self.ingress is not None:
            through = f"through {self.ingress.server or self.ingress.url}, which routes by the header"
        return (
            f"{where} A ({self.a.words}) and B ({self.b.words})",
            f"{units}{labelled}: each keeps its arm, by {self.header} where its client sends it, else by a hash "
            f"({format_percent(self.split)} to B)",
            f"{self.load.words} for {format_duration(self.duration_s)}, after {format_duration(self.warm_up_s)} of "
            f"warm-up, {through}; every request is recorded with its unit and assignment",
            "check that each answer came from its unit's arm, that no unit saw both, and that units and their requests "
            "are split as planned",
            *([self.target.reads(self.limits.memory, self.urls)] if self.limits.memory is not None else []),
            f"compare {', '.join(one.words for one in self.metrics)}, with intervals that resample units"
            + too_few(self.experiment(), self.analyse, self._sent, self._margin_of_errors, len(self.metrics)),
        )

    @property
    def _sent(self) -> float:
        """Requests that are counted, as far as the load says how many."""
        return self.load.rate * self.duration_s if self.load.rate is not None else math.inf

    @property
    def _margin_of_errors(self) -> float:
        return next(one.allowed for one in self.metrics if one.metric == "errors")

    def server(self, arm: AbArm) -> str | None:
        """Where it serves; None for the embedded server."""
        return None if self.embedded else arm.url or self.target.url

    def _same(self, arm: AbArm) -> tuple[str, int | None, str | None]:
        return arm.model, arm.version, self.server(arm)
