"""Which ensembles a change of a model would touch."""

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


def _steps(config: Mapping[str, Any]) -> set[str]:
    steps = config.get("ensemble_scheduling", {}).get("step", ())
    return {str(step.get("model_name", "")) for step in steps}
