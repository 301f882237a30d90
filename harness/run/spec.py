"""What the load generator is told: a scenario and its plan, at the servers where the run takes place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.load import FRONT_END, LoadSpec
from harness.run.target import Target
from harness.scenario import Plan, Scenario
from harness.types import ArmName, Gate, ModelInfo


def load_spec(scenario: Scenario, plan: Plan, target: Target, folder: Path, t0_ns: int) -> LoadSpec:
    """Asks the servers what the models take. Raises UsageError or WorldError where they do not say."""
    load = scenario.load
    models: dict[ArmName, ModelInfo] = {name: _model(target, name) for name in target.arms if name != "candidate"}
    # A candidate that is yet to be deployed, or never serves beside the baseline, cannot be asked: it is another
    # version of the same model.
    unseen = scenario.deploy is not None or scenario.target.swap
    models["candidate"] = models["baseline"] if unseen else _model(target, "candidate")
    arms, front = dict(target.arms), target.front
    if front is not None:
        models["unknown"] = replace(models["baseline"], name=front.entry.model)
        arms["unknown"] = front.arm(models["baseline"])
    return LoadSpec(
        arms=arms,
        models=models,
        seed=plan.seed,
        prompts=plan.prompts,
        max_tokens=load.max_tokens,
        timeout_s=load.timeout_s,
        logprobs_k=load.logprobs,
        texts=scenario.keeps_texts,
        own_logprob=scenario.asks_logprob,
        vectors=scenario.keeps_vectors,
        chunks=load.chunks or wants_chunks(scenario.gates),
        t0_ns=t0_ns,
        folder=folder,
        trace_ns=plan.trace_ns,
        inputs=load.given,
        shapes={name: tuple(shape) for name, shape in load.shapes.items()},
        cache=load.cache,
        connections=load.connections,
        tokenizer=scenario.tokenizer,
        routed=None if front is None else front.routed,
    )


def wants_chunks(gates: Iterable[Gate]) -> bool:
    """Something is judged of the gaps between them."""
    return any(gate.metric.startswith("icl.") for gate in gates)


def _model(target: Target, name: ArmName) -> ModelInfo:
    arm = target.arms[name]
    if name not in target.controls:
        # Behind an OpenAI-compatible front end nobody can be asked: its inputs are those of its api.
        return replace(FRONT_END, name=arm.model)
    return target.controls[name].metadata(arm.model, arm.version)
