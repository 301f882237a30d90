"""Scenarios from the arguments of `gate`: one paired stage between two versions, or two builds of a checkout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from harness.errors import ScenarioError
from harness.scenario import quality
from harness.scenario.document import Document
from harness.scenario.loading import put
from harness.scenario.model import Scenario
from harness.scenario.validate import validate


class Asked(TypedDict, total=False):
    """`margins`: `ttft.p99=10%`, `errors=1pp`, `quality.kl=0.06` (for quality it is the most that is allowed).
    `limits`: `memory.peak=90%`, `ttft.p99=500ms`. `metrics`: pages of the servers, for what is read of them.
    `duration`: 60s unless said, `in_flight`: 1, `max_tokens`: 16.
    """

    prompts: str | Path | None
    margins: Sequence[str]
    limits: Sequence[str]
    metrics: Sequence[str]
    duration: str
    in_flight: int
    max_tokens: int
    seed: int | None


def from_gate(baseline: str, candidate: str, **asked: Unpack[Asked]) -> Scenario:
    """Between two models that are served already; nothing is loaded, unloaded or routed.

    `baseline` and `candidate`: scheme://host:port/model[:version]. Raises ScenarioError naming the argument.
    """
    document = Document({"name": "gate"}, "gate")
    for name, argument in (("baseline", baseline), ("candidate", candidate)):
        put(document, (name,), _arm(argument, f"--{name}"), f"--{name} {argument}")
    return _gate(document, asked)


def from_checkout(
    model: str, baseline: tuple[str, int], candidate: tuple[str, int], url: str | None, repository: Path | None,
    headers: Mapping[str, str], **asked: Unpack[Asked],
) -> Scenario:  # fmt: skip
    """Between two builds of `model`, each by the name and version under which it is going to serve: on the Triton at
    `url`, whose model repository this machine sees as `repository`, or on an embedded one. `headers` go with each call.
    Raises ScenarioError.
    """
    # A run's folder is named by it: what a name of a model may hold beyond that is left out.
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", model)[:50]
    document = Document({"name": f"gate-{readable}"}, "gate")
    for arm, (name, version) in (("baseline", baseline), ("candidate", candidate)):
        document.data[arm] = {"model": name, "version": version, "headers": dict(headers)}
    if url is None:
        document.data["target"] = {"server": "embedded"}
    else:
        put(document, ("target", "url"), url, f"--url {url}")
        put(document, ("target", "repository"), str(repository), f"--repository {repository}")
    return _gate(document, asked)


def _gate(document: Document, asked: Asked) -> Scenario:
    stage = {"mode": "paired"}
    document.data |= {"stages": [stage]}
    for key, value, option in (
        (("stages", 0, "for"), asked.get("duration", "60s"), "--for"),
        (("stages", 0, "in_flight"), asked.get("in_flight", 1), "--in-flight"),
        (("load", "max_tokens"), asked.get("max_tokens", 16), "--max-tokens"),
    ):
        put(document, key, value, f"{option} {value}")
    if (prompts := asked.get("prompts")) is not None:
        put(document, ("load", "prompts"), str(prompts), f"--prompts {prompts}")
    if metrics := asked.get("metrics"):
        put(document, ("target", "metrics_url"), list(metrics), f"--metrics-url {' '.join(metrics)}")
    rules = [(_margin(argument), f"--margin {argument}") for argument in asked.get("margins", ())]
    rules += [(_limit(argument), f"--max {argument}") for argument in asked.get("limits", ())]
    document.data["gates"] = []
    for index, (rule, option) in enumerate(rules):
        document.data["gates"].append(None)
        put(document, ("gates", index), rule, option)
    if (seed := asked.get("seed")) is not None:
        put(document, ("seed",), seed, f"--seed {seed}")
    gate = validate(document, Path())
    assert isinstance(gate, Scenario)
    return gate


def _arm(argument: str, option: str) -> dict[str, Any]:
    match = re.fullmatch(r"([a-z+]+://[^/\s]+)/([^/\s:]+)(?::([^/\s:]*))?", argument)
    example = "scheme://host:port/model:version such as grpc://localhost:8001/llm:1"
    if match is None:
        raise ScenarioError(f"expected {example}", file=f"{option} {argument}")
    url, model, version = match.groups()
    arm: dict[str, Any] = {"url": url, "model": model}
    if version is not None:
        if not version.isdecimal() or int(version) < 1:
            raise ScenarioError(f"expected a version from 1 up, found {version!r}", file=f"{option} {argument}")
        arm["version"] = int(version)
    return arm


def _margin(argument: str) -> dict[str, Any]:
    metric, text = _rule(argument, "--margin", "METRIC=MARGIN such as ttft.p99=10%")
    if not metric.startswith("quality.") or quality.margin_parser(metric) is not None:
        return {"metric": metric, "margin": text}
    return {"metric": metric, "max": _number_or_text(text)}


def _limit(argument: str) -> dict[str, Any]:
    metric, text = _rule(argument, "--max", "METRIC=LIMIT such as memory.peak=90%")
    return {"metric": metric, "max": _number_or_text(text) if metric.startswith("quality.") else text}


def _rule(argument: str, option: str, expected: str) -> tuple[str, str]:
    metric, equals, text = argument.partition("=")
    if not equals or not metric or not text:
        raise ScenarioError(f"expected {expected}", file=f"{option} {argument}")
    return metric, text


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
