"""What must hold between the parts of a scenario. A rule names the key where the mistake is best mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.scenario.fields import Wrong
from harness.scenario.metrics import is_latency, is_quality

if TYPE_CHECKING:
    from harness.scenario.model import Scenario


def check(scenario: Scenario) -> None:
    """Raises Wrong (a ValueError) with the path of the key for the first rule that does not hold."""
    _servers(scenario)
    _arms(scenario)
    _gates(scenario)
    _actions(scenario)


def _servers(scenario: Scenario) -> None:
    embedded = scenario.target.server is not None
    for name, arm in scenario.arms():
        if embedded and arm.url is not None:
            raise Wrong("the embedded server serves both arms; remove url, or target.server", name, "url")
        if not embedded and scenario.url(arm) is None:
            raise Wrong("give server: embedded, or the url of a Triton that runs already", "target")
        if not embedded and arm.build is not None:
            message = "only the embedded server builds models; remove build, or use target: {server: embedded}"
            raise Wrong(message, name, "build")
        if embedded and arm.version is None:
            raise Wrong("the embedded server needs the number of the version", name)


def _arms(scenario: Scenario) -> None:
    baseline, candidate = scenario.baseline, scenario.candidate
    if scenario.url(baseline) != scenario.url(candidate) or baseline.model != candidate.model:
        return
    where = scenario.url(baseline) or "the embedded server"
    if baseline.version == candidate.version:
        version = "no version" if baseline.version is None else f"version {baseline.version}"
        raise Wrong(
            f"expected another version, model or server than the baseline's, found the same: "
            f"{baseline.model}, {version}, {where}",
            "candidate",
            "version",
        )
    for name, arm in scenario.arms():
        if arm.version is None:
            # Triton would pick the highest: perhaps the other arm's.
            raise Wrong("expected the number of the version: both arms are one model on one server", name)


def _gates(scenario: Scenario) -> None:
    names = [gate.metric for gate in scenario.gates]
    modes = {stage.mode for stage in scenario.stages}
    equal = any(stage.share == 0.5 for stage in scenario.stages)
    for index, gate in enumerate(scenario.gates):
        at = ("gates", index, "metric")
        if gate.metric in names[:index]:
            raise Wrong(f"{gate.metric} is gated twice", *at)
        if is_quality(gate.metric):
            if not scenario.load.texts:
                raise Wrong(f"{gate.metric} needs load.prompts: quality is compared on what is asked", *at)
            if scenario.load.logprobs == 0:
                raise Wrong(f"{gate.metric} needs log-probabilities; found logprobs: 0", "load", "logprobs")
            if "paired" not in modes:
                raise Wrong(f"{gate.metric} needs a paired stage: only there both arms score the same text", *at)
        elif is_latency(gate.metric) and gate.margin is not None and not equal:
            raise Wrong(
                f"a margin on {gate.metric} needs a paired or interleaved stage, or a split at 50%: "
                "arms of unequal share compare queues, not builds",
                *at,
            )


def _actions(scenario: Scenario) -> None:
    last = scenario.stages[-1]
    if scenario.on_promote is not None and not (last.mode == "split" and last.share == 1):
        raise Wrong(
            "needs a last stage that is a split with candidate: 100%: else traffic still needs the baseline",
            "on_promote",
        )
    if scenario.on_fail is not None and scenario.on_fail.unload and scenario.candidate.version is None:
        raise Wrong("unload needs the number of the candidate's version", "on_fail", "unload")
    if scenario.on_promote is not None and scenario.on_promote.then and scenario.baseline.version is None:
        raise Wrong("unload needs the number of the baseline's version", "on_promote", "then")
