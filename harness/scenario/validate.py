"""From a document to a Scenario; whatever is wrong becomes one line with the place where it was written."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.errors import ScenarioError
from harness.scenario.document import Document, Key
from harness.scenario.fields import PATTERNS, Wrong
from harness.scenario.model import Scenario
from harness.scenario.operations import KINDS, Operation
from harness.scenario.sections import GateConfig
from harness.types import Gate
from harness.units import found

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


def validate(document: Document, base: Path) -> Scenario | Operation:
    """The scenario of a document; its relative paths are seen from `base`, those of `--set` from here.

    Raises ScenarioError with file, line, column and key of the first mistake; an unknown key comes before all
    others, because a misspelt key is often the cause of what is missing.
    """
    if not isinstance(document.data, dict):
        message = f"expected a scenario (key: value), found {found(document.data)}"
        raise document.place(()).error((), message)
    kind = _kind(document)
    context = {"": base}
    for key, place in document.values.items():
        if place.is_argument:
            context[".".join(map(str, key))] = Path()
    try:
        return kind.model_validate(document.data, context=context)
    except ValidationError as error:
        raise _first(error, document, kind) from error


def _kind(document: Document) -> type[Scenario] | type[Operation]:
    """A canary, unless the document says what else."""
    if "kind" not in document.data:
        return Scenario
    kind = document.data["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(KINDS)
        raise document.place(("kind",)).error(("kind",), f"expected {known}, or no kind at all, found {found(kind)}")
    return KINDS[kind]


def validate_gates(document: Document, key: Key) -> tuple[Gate, ...]:
    """The gates at `key` of a document, as a tuple of Gate. Raises ScenarioError as `validate` does."""
    field = Scenario.model_fields["gates"]
    data = document.data
    for part in key:
        data = data[part]
    try:
        gates: tuple[Gate, ...] = TypeAdapter(field.rebuild_annotation()).validate_python(data)
    except ValidationError as error:
        raise _first(error, document, Scenario, key) from error
    return gates


def _first(error: ValidationError, document: Document, top: type[BaseModel], above: Key = ()) -> ScenarioError:
    mistakes: list[tuple[tuple[bool, int, int], Key, ScenarioError]] = []
    for detail in error.errors(include_url=False):
        key: Key = (*above, *detail["loc"])
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Wrong):
            key = (*key, *cause.at)
        unknown = detail["type"] == "extra_forbidden"
        place = document.place_of_key(key) if unknown else document.place(key)
        message = _message(detail["type"], detail, key, top)
        order = (not unknown, place.line or 0, place.column or 0)
        mistakes.append((order, key, place.error(key, message)))
    # A list whose only entry is wrong counts as empty, too: the entry is the mistake.
    first = min(mistakes, key=lambda mistake: (_holds_another(mistake[1], mistakes), mistake[0]))
    return first[2]


def _holds_another(key: Key, mistakes: Sequence[tuple[Any, Key, Any]]) -> bool:
    return any(len(other) > len(key) and other[: len(key)] == key for _, other, _ in mistakes)


def _message(kind: str, detail: Mapping[str, Any], key: Key, top: type[BaseModel]) -> str:
    context, value = detail.get("ctx", {}), detail.get("input")
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        return _unknown(key, top)
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
        return f"expected {PATTERNS[context['pattern']]}, found {found(value)}"
    if kind == "too_short":
        least, have = context["min_length"], context["actual_length"]
        return f"expected at least {'one entry' if least == 1 else f'{least} entries'}, found {have or 'none'}"
    return f"{' '.join(str(detail['msg']).split())}, found {found(value)}"


def _unknown(key: Key, top: type[BaseModel]) -> str:
    # A list at the top is one of gates.
    section = GateConfig if isinstance(key[0], int) else _section(key[:-1], top)
    known = [field.alias or name for name, field in section.model_fields.items()]
    close = difflib.get_close_matches(str(key[-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    return f"unknown key; {hint}"


def _section(key: Key, top: type[BaseModel]) -> type[BaseModel]:
    """The model that describes what is written at `key`."""
    section = top
    for part in key:
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        if isinstance(part, str) and part in fields:
            section = next(_models(fields[part].annotation), section)
    return section


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation such as `tuple[StageConfig, ...] | None` is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif annotation is Gate:
        yield GateConfig
    for part in get_args(annotation):
        yield from _models(part)
