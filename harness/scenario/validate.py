"""From a document to a Scenario; whatever is wrong becomes one line with the place where it was written."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.errors import ScenarioError
from harness.scenario.document import Document, Key
from harness.scenario.fields import Wrong
from harness.scenario.model import (
    ArmConfig,
    GateConfig,
    LoadConfig,
    OnFailConfig,
    OnPromoteConfig,
    Scenario,
    StageConfig,
    TargetConfig,
    TelemetryConfig,
)
from harness.scenario.units import found
from harness.types import Gate

# Keys whose paths are seen from where they were written.
_PATHS: tuple[Key, ...] = (("load", "prompts"), ("target", "repository"))

_SECTIONS: dict[str, type[BaseModel]] = {
    "": Scenario,
    "target": TargetConfig,
    "baseline": ArmConfig,
    "candidate": ArmConfig,
    "load": LoadConfig,
    "gates": GateConfig,
    "stages": StageConfig,
    "on_fail": OnFailConfig,
    "on_promote": OnPromoteConfig,
    "telemetry": TelemetryConfig,
}

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "float_type": "a number",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "dict_type": "a mapping (key: value)",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_too_short": "some text",
}


def validate(document: Document, base: Path) -> Scenario:
    """The scenario of a document; its relative paths are seen from `base`, those of `--set` from here.

    Raises ScenarioError with file, line, column and key of the first mistake; an unknown key comes before all
    others, because a misspelt key is often the cause of what is missing.
    """
    context = {"": base}
    for path in _PATHS:
        if document.place(path).is_argument:
            context[".".join(map(str, path))] = Path()
    if not isinstance(document.data, dict):
        message = f"expected a scenario (key: value), found {found(document.data)}"
        raise document.place(()).error((), message)
    try:
        return Scenario.model_validate(document.data, context=context)
    except ValidationError as error:
        raise _first(error, document) from error


def validate_gates(document: Document, key: Key) -> tuple[Gate, ...]:
    """The gates at `key` of a document, as a tuple of Gate. Raises ScenarioError as `validate` does."""
    field = Scenario.model_fields["gates"]
    data = document.data
    for part in key:
        data = data[part]
    try:
        gates: tuple[Gate, ...] = TypeAdapter(field.rebuild_annotation()).validate_python(data)
    except ValidationError as error:
        raise _first(error, document, key) from error
    return gates


def _first(error: ValidationError, document: Document, above: Key = ()) -> ScenarioError:
    mistakes = []
    for detail in error.errors(include_url=False):
        key: Key = (*above, *detail["loc"])
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Wrong):
            key = (*key, *cause.at)
        unknown = detail["type"] == "extra_forbidden"
        place = document.place_of_key(key) if unknown else document.place(key)
        message = _message(detail["type"], detail, key)
        order = (not unknown, place.line or 0, place.column or 0)
        mistakes.append((order, place.error(key, message)))
    return min(mistakes, key=lambda mistake: mistake[0])[1]


def _message(kind: str, detail: Mapping[str, Any], key: Key) -> str:
    context, value = detail.get("ctx", {}), detail.get("input")
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        return _unknown(key)
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        return f"expected {context['expected']}, found {found(value)}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {found(value)}"
    bounds = {
        "greater_than_equal": ("from {} up", "ge"),
        "less_than_equal": ("at most {}", "le"),
        "greater_than": ("above {}", "gt"),
        "less_than": ("below {}", "lt"),
    }
    if kind in bounds:
        words, name = bounds[kind]
        return f"expected a whole number {words.format(context[name])}, found {found(value)}"
    if kind == "string_pattern_mismatch":
        expected = "a name of letters, digits, . _ -" if key == ("name",) else "a name without spaces and slashes"
        return f"expected {expected}, found {found(value)}"
    if kind == "too_short":
        return "expected at least one entry, found none"
    return f"{' '.join(str(detail['msg']).split())}, found {found(value)}"


def _unknown(key: Key) -> str:
    # A list at the top is one of gates.
    above = "gates" if isinstance(key[0], int) else str(key[0]) if len(key) > 1 else ""
    section = _SECTIONS.get(above, Scenario)
    known = [field.alias or name for name, field in section.model_fields.items()]
    close = difflib.get_close_matches(str(key[-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    return f"unknown key; {hint}"
