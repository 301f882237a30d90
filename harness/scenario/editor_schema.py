"""The JSON Schema of a scenario file, for editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from harness.scenario.model import Scenario
from harness.scenario.operations import KINDS


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a scenario file of any kind. Rules between keys are left to the loader."""
    models: list[type[BaseModel]] = [Scenario, *KINDS.values()]
    _, schema = models_json_schema([(model, "validation") for model in models], by_alias=True)
    # A chain of conditions and not a choice: an editor then complains about the one kind that is meant.
    rules: dict[str, Any] = {"$ref": "#/$defs/Scenario"}
    for kind, model in KINDS.items():
        is_kind = {"required": ["kind"], "properties": {"kind": {"const": kind}}}
        rules = {"if": is_kind, "then": {"$ref": f"#/$defs/{model.__name__}"}, "else": rules}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "triton-canary scenario",
        "type": "object",
        "$defs": schema["$defs"],
        **rules,
    }
