"""What a history keeps of a run: when, of which commit, measured how, on what, and the figures of its findings."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import UsageError
from harness.history import series
from harness.history.fingerprint import fingerprint
from harness.types.history import Worse

NAN = float("nan")
_TIMES = ("ttft", "tpot", "response_time", "request_latency", "icl", "steps")
_LESS_IS_WORSE = ("throughput", "throughput_per_gpu", "goodput", "max_load", "quality.score", "quality.cosine", "edge")
_NEITHER = ("osl", "quality.finish")
_IN_NUMBERS = ("quality.kl", "quality.logprob", "quality.perplexity", "quality.cosine")


@dataclass(frozen=True, slots=True)
class Measure:
    """What a figure is of. `unit` of the value: s, share, bytes, J, 1/s, nats, ...; `effect_unit` of the effect against
    the baseline: ratio, pp, or the metric's own, "" where there is none. `stage` from 1, 0 where there is but one.
    `gated`: it had a margin.
    """

    metric: str
    stage: int = 0
    unit: str = "1"
    effect_unit: str = ""
    worse: Worse = "higher"
    gated: bool = False

    @property
    def name(self) -> str:
        return f"{self.metric} (stage {self.stage})" if self.stage else self.metric


@dataclass(frozen=True, slots=True)
class Figure:
    """NaN is unknown. `value` is the candidate's; `low` and `high` are the interval of `effect`."""

    value: float = NAN
    baseline: float = NAN
    effect: float = NAN
    low: float = NAN
    high: float = NAN


@dataclass(frozen=True, slots=True)
class Entry:
    """`run`: a digest of what was recorded, the same however the folder is called. `unfit`: why its figures say
    nothing, "" where they count. `definition`: as `series.definition`. `figures` go with `measures`.
    """

    run: str
    name: str
    started_utc: str
    commit: str
    branch: str
    verdict: str
    unfit: str
    definition: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    measures: tuple[Measure, ...]
    figures: tuple[Figure, ...]

    @property
    def series(self) -> str:
        return series.key_of(self.definition)

    @property
    def digest(self) -> str:
        """Of what was found: another verdict of the same run has another one; its name and commit are no part."""
        figures = [[repr(getattr(one, field)) for field in Figure.__slots__] for one in self.figures]
        parts = [self.run, self.verdict, self.unfit, self.definition, self.fingerprint, measure_json(self.measures)]
        return hashlib.sha256(json.dumps([*parts, figures], sort_keys=True).encode()).hexdigest()[:32]


def entry_of(
    meta: Mapping[str, Any], document: Mapping[str, Any], *, content: str, name: str, started_utc: str,
    commit: str = "", branch: str = "",
) -> Entry:  # fmt: skip
    """From run.json ({} if there is none) and verdict.json. `content`: a digest of the recording itself.

    Raises UsageError where verdict.json is none, and RecordingError where run.json is damaged.
    """
    findings, run = document.get("findings"), document.get("run")
    if document.get("format") != 1 or not isinstance(findings, list) or not isinstance(run, Mapping):
        raise UsageError(f"{name}: verdict.json: expected a verdict of format 1")
    measured = _measured_stages(meta)
    kept = _figures(findings, measured)
    return Entry(
        run=hashlib.sha256(f"{meta.get('started_utc')}\0{content}".encode()).hexdigest()[:32],
        name=name,
        started_utc=started_utc,
        commit=commit,
        branch=branch,
        verdict=str(document.get("verdict", "")),
        unfit=_unfit(run, findings, measured, any(math.isfinite(figure.value) for figure in kept.values())),
        definition=series.definition(meta),
        fingerprint=fingerprint(meta),
        measures=tuple(kept),
        figures=tuple(kept.values()),
    )


def measure_json(measures: Sequence[Measure]) -> str:
    rows = [[one.metric, one.stage, one.unit, one.effect_unit, one.worse, one.gated] for one in measures]
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False)


def measures_of(text: str) -> tuple[Measure, ...]:
    """The inverse of `measure_json`; raises ValueError or TypeError."""
    return tuple(Measure(*row) for row in json.loads(text))


def _measured_stages(meta: Mapping[str, Any]) -> set[int] | None:
    """Those in which arms are compared at equal load: in the others, a few requests tell too little to make a series.
    None: all.
    """
    plans = series.plans_of(meta)
    found = {plan.index for plan in plans if plan.purpose == "compare" and plan.mode != "split"}
    return found or {plan.index for plan in plans} or None


def _figures(findings: Sequence[Any], measured: set[int] | None) -> dict[Measure, Figure]:
    """One of a metric and stage, the first that there is: findings tell the gated ones before the others."""
    here = [one for one in findings if one.get("kind") != "validity" and _in(one, measured)]
    # A stage is named where several are measured.
    named = len({_stage(one) for one in here} if measured is None else measured) > 1
    kept: dict[tuple[str, int], tuple[Measure, Figure]] = {}
    for found in here:
        metric, unit = str(found.get("metric", "")), str(found.get("unit", ""))
        low, high = found.get("interval") or (None, None)
        value, effect = _number(found.get("candidate")), _number(found.get("effect"))
        against = _number(found.get("baseline"))
        if not math.isfinite(value):
            continue
        compared = math.isfinite(against) and math.isfinite(effect)
        stage = _stage(found) + 1 if named else 0
        measure = Measure(
            metric, stage, unit_of(metric, unit), unit if compared else "", worse_of(metric),
            found.get("margin") is not None,
        )  # fmt: skip
        figure = Figure(value, against, effect if compared else NAN, _number(low), _number(high))
        kept.setdefault((metric, stage), (measure, figure))
    return dict(kept.values())


def _stage(found: Mapping[str, Any]) -> int:
    return int(found.get("stage", 0))


def _in(found: Mapping[str, Any], stages: set[int] | None) -> bool:
    return stages is None or _stage(found) in stages


def _unfit(run: Mapping[str, Any], findings: Iterable[Any], measured: set[int] | None, any_figure: bool) -> str:
    if not run.get("finished"):
        return "it did not finish"
    for found in findings:
        validity = found.get("kind") == "validity" and _in(found, measured)
        if validity and found.get("outcome") in ("fail", "inconclusive"):
            return f"its measurement was not sound: {found.get('reason') or found.get('metric')}"
    return "" if any_figure else "it has no figures"


def unit_of(metric: str, unit: str = "") -> str:
    """Of a metric's own value; `unit` is its finding's, which a watched value shares."""
    parts = metric.split(".")
    if set(parts) & set(_TIMES):
        return "s"
    if metric.startswith("errors") or (metric.startswith("quality.") and not metric.startswith(_IN_NUMBERS)):
        return "share"
    if parts[-1].endswith("throughput") or parts[-1] in ("goodput", "throughput_per_gpu"):
        return "1/s"
    known = {"memory.peak": "bytes", "energy": "J", "osl": "tokens", "quality.kl": "nats"}
    return known.get(metric) or {"rate": "share", "pp": "share", "ratio": "1"}.get(unit, unit or "1")


def worse_of(metric: str) -> Worse:
    if metric.startswith(_NEITHER):
        return "either"
    last = metric.rpartition(".")[2]
    less = metric.startswith(_LESS_IS_WORSE) or last.endswith("throughput") or last in _LESS_IS_WORSE
    return "lower" if less else "higher"


def _number(value: Any) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known else NAN
