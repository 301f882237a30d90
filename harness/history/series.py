"""Which runs measure the same thing. Only those are one series.

What defines a measurement: the scenario's name and kind, the models asked for and over which interface, prompts, load,
and the stages' plan. What does not: seed, versions and builds (they are under test), gates, names of files, addresses.
Keys that a later release adds do not part old runs from new ones: what is in is listed here, with the value that it
has where nobody sets it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from harness.recording import stage_plans, stage_records
from harness.types import StagePlan

_LOAD: dict[str, Any] = {
    "max_tokens": None, "cache": "as-is", "connections": None, "workers": 1, "synthetic": None, "speed": "1x",
    "shapes": {}, "logprobs": 0, "chunks": False,
}  # fmt: skip
_ARM: dict[str, Any] = {"model": None, "api": "kserve", "stream": True, "parameters": {}}
_OPERATION = (
    "model", "models", "a", "b", "goal", "contexts", "batches", "max_tokens", "repeats", "day", "night", "realtime",
    "batch", "phase", "load", "between", "trial", "for",
)  # fmt: skip
"""Of an operation's scenario, as far as its kind has them."""
_CALLED = ("model", "over", "rate", "in_flight", "prompts", "max_tokens", "max_queue_delay")
"""Of what is within those."""


def definition(meta: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-able; equal for runs of one series. Raises RecordingError where run.json is damaged."""
    scenario = meta.get("scenario") if isinstance(meta.get("scenario"), Mapping) else {}
    assert isinstance(scenario, Mapping)
    found: dict[str, Any] = {"scenario": str(scenario.get("name") or "recording")}
    if kind := scenario.get("kind"):
        found["kind"] = kind
        found |= {key: _called(scenario[key]) for key in _OPERATION if scenario.get(key) is not None}
    built = _mapping(meta, "git").get("model")  # of a checkout: it serves under a name of its own, another in each run
    for arm in ("baseline", "candidate"):
        found[arm] = _chosen(scenario.get(arm), _ARM)
        if built and "model" in found[arm]:
            found[arm]["model"] = built
    load = found.get("load", {}) if kind else _chosen(scenario.get("load"), _LOAD)
    prompts = meta.get("prompts")
    # What is made up from the seed is another text in each run, of the same kind.
    if isinstance(prompts, Mapping) and prompts.get("count") and not load.get("synthetic"):
        load["prompts"] = str(prompts.get("sha256", ""))[:16]
    found["load"] = load
    found["stages"] = [_plan(plan) for plan in plans_of(meta)]
    return {key: value for key, value in found.items() if value}


def plans_of(meta: Mapping[str, Any]) -> tuple[StagePlan, ...]:
    """As planned; of older recordings, which do not say, as they ran. RecordingError where run.json is damaged."""
    return stage_plans(meta) or tuple(record.plan for record in stage_records(meta))


def key_of(definition: Mapping[str, Any]) -> str:
    text = json.dumps(definition, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def in_words(definition: Mapping[str, Any]) -> str:
    """`smollm2 against smollm2; paired, 1 in flight, 90 s; max_tokens 8, 170 prompts`."""
    arms = [str(_mapping(definition, arm).get("model") or "") for arm in ("baseline", "candidate")]
    told = [" against ".join(dict.fromkeys(filter(None, arms)))]
    told += [" then ".join(_stage(stage) for stage in definition.get("stages", []) if stage.get("purpose") is None)]
    load = dict(_mapping(definition, "load"))
    prompts = load.pop("prompts", "")
    told += [", ".join(f"{key} {_short(value)}" for key, value in load.items())]
    told += [f"prompts {prompts[:8]}" if prompts else ""]
    rest = (key for key in definition if key not in ("scenario", "kind", "baseline", "candidate", "load", "stages"))
    told += [", ".join(f"{key} {_short(definition[key])}" for key in rest)]
    return "; ".join(filter(None, told))


def _mapping(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = of.get(key)
    return found if isinstance(found, Mapping) else {}


def _chosen(given: Any, neutral: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return {}
    return {key: given[key] for key, usual in neutral.items() if given.get(key) not in (None, usual)}


def _plan(plan: StagePlan) -> dict[str, Any]:
    usual = {field.name: field.default for field in fields(plan)}
    return {key: value for key, value in asdict(plan).items() if key != "index" and value != usual[key]}


def _called(value: Any) -> Any:
    """A setting, or of a model how it is asked; of several models each by its name."""
    if not isinstance(value, Mapping):
        return value
    if all(isinstance(inner, Mapping) for inner in value.values()):
        return {name: _called(inner) for name, inner in value.items()}
    own = {key: value[key] for key in _CALLED if value.get(key) is not None}
    return own or {key: inner for key, inner in value.items() if inner is not None}


def _stage(stage: Mapping[str, Any]) -> str:
    rate, flying = stage.get("rate"), stage.get("in_flight")
    load = f", {flying} in flight" if flying is not None else f", {rate:g}/s" if rate is not None else ""
    share = f" {100 * stage['candidate_share']:g} %" if stage.get("mode") == "split" else ""
    return f"{stage.get('mode', '')}{share}{load}, {stage.get('duration_s', 0):g} s"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
