"""What ensembles are made of, and which of them a change of a model would touch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dependents(model: str, configs: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The ensembles among `configs` (name to configuration) with a step on `model`, also through others."""
    found: set[str] = set()
    touched = {model}
    while touched:
        touched = {name for name, config in configs.items() if name not in found and touched & _steps(config)} - {model}
        found |= touched
    return tuple(sorted(found))


def steps(config: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Model and version of each step of an ensemble, () for any other model. -1: whichever version is the highest."""
    listed = config.get("ensemble_scheduling", {}).get("step", ())
    # JSON has an int64 as text, and Triton leaves out what is the default.
    return tuple((str(step.get("model_name", "")), int(step.get("model_version", -1))) for step in listed)


def _steps(config: Mapping[str, Any]) -> set[str]:
    return {model for model, _ in steps(config)}
