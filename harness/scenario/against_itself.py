"""A scenario whose candidate is its baseline once more: what an A/A runs."""

from __future__ import annotations

from harness.errors import UsageError
from harness.scenario.model import Scenario
from harness.scenario.operations import Operation
from harness.scenario.sections import ArmConfig


def against_itself(scenario: Scenario | Operation) -> Scenario:
    """The same load, stages and gates; the candidate is the baseline's build.

    On an embedded server that build is served a second time, as another version. On a server that runs already both
    arms are one version: nothing is loaded, unloaded or deployed there, and no user's traffic is moved. That two arms
    are one is what rules forbid a canary, so the copy is not validated again. Raises UsageError for an operation, which
    has no arms.
    """
    if isinstance(scenario, Operation):
        raise UsageError(f"{scenario.name}: is no canary, and only a canary is calibrated")
    # Nothing is started or stopped for it, either.
    baseline = scenario.baseline.model_copy(update={"start": None, "stop": None})
    twin = baseline if scenario.target.server is None else _twin(baseline, scenario.candidate)
    return scenario.model_copy(
        update={
            "baseline": baseline, "candidate": twin, "stable": None, "store": None, "deploy": None, "on_fail": None,
            "on_promote": None, "ingress": None, "name": f"{scenario.name}-calibration",
        }
    )  # fmt: skip


def _twin(baseline: ArmConfig, candidate: ArmConfig) -> ArmConfig:
    version = candidate.version if candidate.model == baseline.model else None
    return baseline.model_copy(update={"version": version or (baseline.version or 1) + 1})
