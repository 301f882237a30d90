"""What must hold between the sections of a scenario. A rule names the key where the mistake is best mended.

Each function raises Wrong (a ValueError) with the path of that key for the first rule that does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.scenario import quality
from harness.scenario.fields import Wrong
from harness.scenario.metrics import OF_OWN_GPUS, is_amount, is_latency, is_quality
from harness.scenario.places import StoreConfig
from harness.scenario.sections import (
    ArmConfig,
    DeployConfig,
    IngressConfig,
    LoadConfig,
    OnFailConfig,
    OnPromoteConfig,
    ScorerConfig,
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
        if arm.server is not None and (name != "candidate" or not embedded):
            raise Wrong("only the candidate, beside target: {server: embedded}, has a second one", name, "server")
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
    apart = candidate.server is not None or target.url_of(baseline) != target.url_of(candidate)
    if apart or baseline.model != candidate.model:
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


def ingress(
    target: TargetConfig,
    wanted: IngressConfig | None,
    baseline: ArmConfig,
    candidate: ArmConfig,
    stable: ArmConfig | None,
    stages: Sequence[StageConfig],
) -> None:
    """A router that can tell the arms apart, and has something to split."""
    if wanted is None:
        return
    if (wanted.server is not None) != (target.server is not None):
        raise Wrong("the embedded Triton and an ingress that is started go together: both, or neither", "ingress")
    if all(stage.mode != "split" for stage in stages):
        raise Wrong("no stage splits the traffic; add one (such as {mode: split, candidate: 10%, ...})", "ingress")
    if stable is not None or any(stage.baseline_share is not None for stage in stages):
        raise Wrong("an ingress splits between two arms; remove stable, and baseline shares of stages", "ingress")
    if target.swap:
        raise Wrong("target.swap needs a server that nobody else uses; remove ingress", "ingress")
    apart = candidate.server is not None or target.url_of(baseline) != target.url_of(candidate)
    if apart:
        return
    if wanted.server is not None and baseline.model != candidate.model:
        raise Wrong(
            "the ingress that is started tells versions apart, not models: give the candidate server: embedded",
            "candidate",
            "model",
        )
    if wanted.speaks_grpc and baseline.model == candidate.model:
        raise Wrong(
            "gRPC names the version inside the message, where no ingress sees it: give each arm a Triton of its own "
            "(candidate.url); or let clients name the version, or a model name of its own; or use an Envoy with "
            "ext_proc; over HTTP the path can be rewritten",
            "ingress",
            "url" if wanted.server is None else "over",
        )
    if wanted.speaks_grpc:
        raise Wrong(
            "gRPC names the model inside the message, where no ingress sees it: clients have to ask the candidate's "
            "model themselves, or each arm has a Triton of its own (candidate.url)",
            "ingress",
            "url" if wanted.server is None else "over",
        )


def swap(
    target: TargetConfig,
    baseline: ArmConfig,
    candidate: ArmConfig,
    stages: Sequence[StageConfig],
    load: LoadConfig,
) -> None:
    """Versions that are swapped are two of one model on one server that is operated, and no stage needs both."""
    if not target.swap:
        return
    for name, arm in (("baseline", baseline), ("candidate", candidate)):
        if arm.url is not None:
            raise Wrong("versions are swapped on one server; give target.url instead", name, "url")
    if candidate.model != baseline.model:
        raise Wrong(f"expected another version of the baseline's model, {baseline.model}", "candidate", "model")
    for index, stage in enumerate(stages):
        if stage.mode != "sequential":
            raise Wrong(f"target.swap loads one version at a time; {stage.mode} needs both", "stages", index, "mode")
    if load.cache == "warm":
        raise Wrong("warm asks both versions before the run, and target.swap loads one at a time", "load", "cache")


def after_swaps(target: TargetConfig, on_fail: OnFailConfig | None, deploy: DeployConfig | None) -> None:
    """What was served before is served in the end."""
    if not target.swap:
        return
    if on_fail is not None:
        raise Wrong("target.swap puts back what served before, whatever the verdict; remove on_fail", "on_fail")
    if deploy is not None:
        raise Wrong("target.swap loads one version at a time; a deploy loads another beside it", "deploy")


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
    if candidate.url is not None and not candidate.operated:
        raise Wrong("a deploy onto the candidate's own server needs its repository", "candidate", "url")
    if baseline.url is not None and candidate.url is None:
        raise Wrong("a deploy takes place on the candidate's server; give target.url instead", "baseline", "url")
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
    if target.server is None and target.repository is None and candidate.repository is None:
        raise Wrong("a store is synced into the server's model repository: say where it is", "target", "repository")


def gates(
    wanted: Sequence[Gate], load: LoadConfig, stages: Sequence[StageConfig], scorers: Mapping[str, ScorerConfig]
) -> None:
    """Each gate once, and only where a stage can answer it."""
    names = [gate.metric for gate in wanted]
    modes = {stage.mode for stage in stages}
    equal = any(stage.equal for stage in stages)
    at_once = any(stage.equal and stage.mode != "sequential" for stage in stages)
    for index, gate in enumerate(wanted):
        at = ("gates", index, "metric")
        if gate.metric in names[:index]:
            raise Wrong(f"{gate.metric} is gated twice", *at)
        if is_quality(gate.metric):
            _quality(gate.metric, load, scorers, at)
            if gate.metric in quality.FORCED and "paired" not in modes:
                raise Wrong(f"{gate.metric} needs a paired stage: only there both arms score the same text", *at)
            if not at_once:
                raise Wrong(f"{gate.metric} needs a paired or interleaved stage, or a split at 50%", *at)
        elif is_latency(gate.metric) and gate.margin is not None and not equal:
            raise Wrong(
                f"a margin on {gate.metric} needs a paired or interleaved stage, or a split at 50%: "
                "arms of unequal share compare queues, not builds",
                *at,
            )
        elif is_amount(gate.metric) and gate.margin is not None and not at_once:
            raise Wrong(
                f"a margin on {gate.metric} needs a paired or interleaved stage, or a split at 50%: "
                "else the arms' shares set it, not the builds",
                *at,
            )


def _quality(metric: str, load: LoadConfig, scorers: Mapping[str, ScorerConfig], at: tuple[str | int, ...]) -> None:
    """What a quality gate needs to be there."""
    if metric not in quality.VECTORS and not load.asks:
        raise Wrong(f"{metric} needs load.prompts: quality is compared on what is asked", *at)
    if metric in quality.FORCED and load.logprobs == 0:
        raise Wrong(f"{metric} needs log-probabilities; found logprobs: 0", "load", "logprobs")
    name = quality.scorer_of(metric)
    if name is None:
        return
    if not scorers:
        raise Wrong(f"{metric} needs a scorer (such as scorers: {{answer: {{use: exact}}}})", *at)
    if name and name not in scorers:
        raise Wrong(f"{metric}: no such scorer; known are {', '.join(scorers)}", *at)
    if not name and len(scorers) > 1:
        raise Wrong(f"there are {len(scorers)} scorers: say which, as {quality.ONE_SCORER}{next(iter(scorers))}", *at)


def scorers(wanted: Mapping[str, ScorerConfig], load: LoadConfig) -> None:
    """Scorers have fitting names and answers to score, and those that expect something are told what."""
    for name, scorer in wanted.items():
        if not re.fullmatch(quality.SCORER, name):
            raise Wrong("expected a name of small letters, digits, _ -", "scorers", name)
        if not load.asks:
            raise Wrong("needs load.prompts: what is scored is the answer to one", "scorers", name)
        if scorer.expects and all(prompt.expected is None for prompt in load.listed):
            example = '{"prompt": "...", "expected": "..."}'
            raise Wrong(f"{scorer.use} needs expected answers in load.prompts, such as {example}", "scorers", name)


def gpus(wanted: Sequence[Gate], arms: Mapping[ArmName, ArmConfig]) -> None:
    """A GPU that serves one arm alone serves no other, and what is measured by GPU has some."""
    taken: dict[str, ArmName] = {}
    for name, arm in arms.items():
        for gpu in arm.devices:
            if gpu in taken:
                raise Wrong(f"{gpu} serves the {taken[gpu]}, too: what they share cannot be told apart", name, "gpus")
            taken[gpu] = name
    for index, gate in enumerate(wanted):
        if gate.metric in OF_OWN_GPUS:
            for name in ("baseline", "candidate"):
                if not arms[name].gpus:
                    message = f"needs GPUs that serve the {name} alone (such as {name}: {{gpus: [0]}})"
                    raise Wrong(f"{gate.metric} {message}", "gates", index, "metric")


def actions(
    target: TargetConfig,
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
    if on_fail is not None and on_fail.stop and not arms["candidate"].stoppable:
        raise Wrong("needs to know how: give the candidate stop, the command that stops its server", "on_fail", "stop")
    if on_promote is not None and on_promote.then == "unload":
        _may_unload("baseline", arms["baseline"], "on_promote", "then")
    if on_promote is not None and on_promote.then == "stop":
        own = target.server is not None and arms["candidate"].server is not None
        if not own and arms["baseline"].stop is None:
            raise Wrong("needs to know how: give the baseline stop, the command that stops its server", "on_promote")


def _may_unload(name: ArmName, arm: ArmConfig, *at: str) -> None:
    if arm.version is None:
        raise Wrong(f"unload needs the number of the {name}'s version", *at)
    if not arm.operated:
        raise Wrong(
            f"a {name} with a url of its own and no repository is compared, not operated: nothing is unloaded there",
            *at,
        )
