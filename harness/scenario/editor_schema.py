"""The JSON Schema of a scenario file, for editors."""

from __future__ import annotations

from typing import Any

from harness.scenario.model import Scenario


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a scenario file. Rules between keys are left to the loader."""
    schema = Scenario.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "triton-canary scenario",
    }
