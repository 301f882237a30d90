"""What must hold between the sections of a scenario. A rule names the key where the mistake is best mended.

Each function raises Wrong (a ValueError) with the path of that key for the first rule that does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.scenario.fields import Wrong
from harness.scenario.metrics import is_latency, is_quality
from harness.scenario.places import StoreConfig
from harness.scenario.sections import (
    ArmConfig,
    DeployConfig,
    LoadConfig,
    OnFailConfig,
    OnPromoteConfig,
    StageConfig,
    TargetConfig,
)
from harness.scenario.sections.level import MOST_STAGES
from harness.types import ArmName, Gate


def servers(target: TargetConfig, arms: Mapping[ArmName, ArmConfig]) -> None:
    """Each arm has one server, and only what is right for that kind of server."""
    embedded = target.server is not None
    for name, arm in arms.items():
        if embedded and arm.url is not None:
            raise Wrong("the embedded server serves both arms; remove url, or target.server", name, "url")
        if not embedded and target.url_of(arm) is None:
            raise Wrong("give server: embedded, or the url of a Triton that runs already", "target")
        if not embedded and arm.build is not None:
            message = "only the embedded server builds models; remove build, or use target: {server: embedded}"
            raise Wrong(message, name, "build")
        if embedded and arm.version is None:
            raise Wrong("the embedded server needs the number of the version", name)
        arm.check_address(target.url_of(arm), name)


def arms(target: TargetConfig, baseline: ArmConfig, candidate: ArmConfig) -> None:
    """The arms are two, and can be told apart."""
    if target.url_of(baseline) != target.url_of(candidate) or baseline.model != candidate.model:
        return
    where = target.url_of(baseline) or "the embedded server"
    if baseline.version == candidate.version:
        version = "no version" if baseline.version is None else f"version {baseline.version}"
        raise Wrong(
            f"expected another version, model or server than the baseline's, found the same: "
            f"{baseline.model}, {version}, {where}",
            "candidate",
            "version",
        )
    for name, arm in (("baseline", baseline), ("candidate", candidate)):
        if arm.version is None:
            # Triton would pick the highest: perhaps the other arm's.
            raise Wrong("expected the number of the version: both arms are one model on one server", name)


def stable(
    target: TargetConfig,
    stable: ArmConfig | None,
    baseline: ArmConfig,
    candidate: ArmConfig,
    stages: Sequence[StageConfig],
) -> None:
    """A third arm where a stage leaves it a share, and one that is not the candidate."""
    if stable is None:
        return
    if all(stage.baseline_share is None for stage in stages):
        raise Wrong("no stage leaves it a share; give a split stage baseline (such as baseline: 10%)", "stable")
    if _place(target, stable) == _place(target, candidate):
        raise Wrong(f"expected what serves now, found the candidate: {_named(stable)}", "stable")
    if target.server is not None and _place(target, stable) != _place(target, baseline):
        raise Wrong(f"the embedded server serves {_named(baseline)} to the stable arm as well; remove stable", "stable")


def _place(target: TargetConfig, arm: ArmConfig) -> tuple[str | None, str, int | None]:
    return target.url_of(arm), arm.model, arm.version


def _named(arm: ArmConfig) -> str:
    return arm.model if arm.version is None else f"{arm.model}, version {arm.version}"


def load(wanted: LoadConfig, stages: Sequence[StageConfig]) -> None:
    """A stage that replays has a trace, one with gamma arrivals its burstiness; and they are not too many."""
    planned = 0
    for index, stage in enumerate(stages):
        at = ("stages", index)
        planned += len(stage.legs()) or 1
        if stage.arrival == "trace" and wanted.trace is None:
            raise Wrong("needs load.trace: the file whose times are replayed", *at, "arrival")
        open_loop = any(leg.rate is not None for leg in stage.legs())
        gamma = open_loop and (stage.arrival or wanted.arrival) == "gamma"
        if gamma and (stage.burstiness or wanted.burstiness) is None:
            raise Wrong("gamma arrivals need burstiness (such as burstiness: 0.25)", *at)
        if stage.burstiness is not None and not gamma:
            raise Wrong(f"only gamma arrivals have it; found load.arrival: {wanted.arrival}", *at, "burstiness")
    if planned > MOST_STAGES:
        raise Wrong(f"expected at most {MOST_STAGES} stages, found {planned} with steps and sweeps", "stages")


def deploy(
    target: TargetConfig,
    store: StoreConfig | None,
    wanted: DeployConfig | None,
    baseline: ArmConfig,
    candidate: ArmConfig,
) -> None:
    """A version is deployed beside one of the same model, on a server that is operated, from a store that fits."""
    if wanted is None:
        if store is not None:
            raise Wrong(
                "only a deploy reads a store; add deploy (such as deploy: {rate: 50/s}), or remove store", "store"
            )
        return
    for name, arm in (("baseline", baseline), ("candidate", candidate)):
        if arm.url is not None:
            raise Wrong("a deploy takes place on one server; give target.url instead", name, "url")
    if candidate.model != baseline.model:
        raise Wrong(
            f"a deploy brings another version of the baseline's model, {baseline.model}: requests are made before "
            "the candidate can be asked what it takes",
            "candidate",
            "model",
        )
    if store is None:
        return
    if (store.server is None) != (target.server is None):
        raise Wrong("the embedded server and the embedded store go together: give both, or url for both", "store")
    if target.server is None and target.repository is None:
        raise Wrong("a store is synced into the server's model repository: say where it is", "target", "repository")


def gates(wanted: Sequence[Gate], load: LoadConfig, stages: Sequence[StageConfig]) -> None:
    """Each gate once, and only where a stage can answer it."""
    names = [gate.metric for gate in wanted]
    modes = {stage.mode for stage in stages}
    equal = any(stage.equal for stage in stages)
    for index, gate in enumerate(wanted):
        at = ("gates", index, "metric")
        if gate.metric in names[:index]:
            raise Wrong(f"{gate.metric} is gated twice", *at)
        if is_quality(gate.metric):
            if not load.asks:
                raise Wrong(f"{gate.metric} needs load.prompts: quality is compared on what is asked", *at)
            if load.logprobs == 0:
                raise Wrong(f"{gate.metric} needs log-probabilities; found logprobs: 0", "load", "logprobs")
            if "paired" not in modes:
                raise Wrong(f"{gate.metric} needs a paired stage: only there both arms score the same text", *at)
        elif is_latency(gate.metric) and gate.margin is not None and not equal:
            raise Wrong(
                f"a margin on {gate.metric} needs a paired or interleaved stage, or a split at 50%: "
                "arms of unequal share compare queues, not builds",
                *at,
            )


def actions(
    stages: Sequence[StageConfig],
    arms: Mapping[ArmName, ArmConfig],
    on_fail: OnFailConfig | None,
    on_promote: OnPromoteConfig | None,
) -> None:
    """What is done at the end can be done."""
    last = stages[-1]
    if on_promote is not None and not (last.mode == "split" and last.share == 1):
        raise Wrong(
            "needs a last stage that is a split with candidate: 100%: else traffic still needs the baseline",
            "on_promote",
        )
    if on_fail is not None and on_fail.unload:
        _may_unload("candidate", arms["candidate"], "on_fail", "unload")
    if on_promote is not None and on_promote.then:
        _may_unload("baseline", arms["baseline"], "on_promote", "then")


def _may_unload(name: ArmName, arm: ArmConfig, *at: str) -> None:
    if arm.version is None:
        raise Wrong(f"unload needs the number of the {name}'s version", *at)
    if arm.url is not None:
        raise Wrong(f"a {name} with a url of its own is compared, not operated: nothing is unloaded there", *at)
