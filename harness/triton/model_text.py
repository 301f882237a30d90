"""`config.pbtxt` under another name: the same model beside itself on one server; and what two of them say differently.

As in config_text, the text is edited where a scanner finds the names, and the result is proven: before and after are
parsed with tritonclient's own protobuf classes, and may differ in those names alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.errors import UsageError, WorldError
from harness.triton.pbtxt import Field, fields, tokens
from harness.triton.protobuf import ModelConfig, json_format, parse, text_of


def parse_config(content: bytes, name: str) -> dict[str, Any]:
    """The JSON form of a model's configuration. Raises UsageError, naming `name`, where it is none."""
    found: dict[str, Any] = json_format.MessageToDict(
        parse(text_of(content, name), name), preserving_proto_field_name=True
    )
    return found


def rename_models(content: bytes, model: str, names: Mapping[str, str], name: str = "config.pbtxt") -> bytes:
    """The configuration of `model` as that of `names[model]`, and of an ensemble each step in `names` by its new name.

    A step that names a version has that version under its new name, too. Comments and layout stay. Raises UsageError
    where `content` is no configuration, or one of another model; WorldError where it cannot be edited safely.
    """
    text = text_of(content, name)
    before = parse(text, name)
    if before.name not in ("", model):
        raise UsageError(f"{name}: is the configuration of {before.name!r}, in the folder of {model!r}")
    edits = sorted(_edits(text, model, names), reverse=True)
    edited = text
    for start, end, new in edits:
        edited = f"{edited[:start]}{new}{edited[end:]}"
    wanted = ModelConfig()
    wanted.CopyFrom(before)
    if before.name:
        wanted.name = names[model]
    for step in wanted.ensemble_scheduling.step if before.HasField("ensemble_scheduling") else ():
        step.model_name = names.get(step.model_name, step.model_name)
    if parse(edited, name) != wanted:
        raise WorldError(f"{name}: the names in it cannot be edited safely")
    return edited.encode()


def changed_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """What two configurations say differently: the dotted key, the value before and after ("" where there is none)."""
    old, new = dict(_values(before, "")), dict(_values(after, ""))
    keys = [*old, *(key for key in new if key not in old)]
    return tuple((key, old.get(key, ""), new.get(key, "")) for key in keys if old.get(key) != new.get(key))


def _edits(text: str, model: str, names: Mapping[str, str]) -> Iterator[tuple[int, int, str]]:
    """Where in the text a name stands, and what stands there then."""
    for field in fields(tokens(text)):
        if field.name == "name":
            yield _value(field, names[model])
        if field.name != "ensemble_scheduling":
            continue
        for step in (inner for inner in fields(field.body) if inner.name == "step"):
            yield from _step_edits(step, names)


def _step_edits(step: Field, names: Mapping[str, str]) -> Iterator[tuple[int, int, str]]:
    """Of `step { model_name: "a" ... }`, and of `step [ { ... }, { ... } ]`."""
    level = list(step.body)
    depth = 0
    for position, token in enumerate(level):
        depth += (token.kind == "open") - (token.kind == "close")
        if token.text == "model_name" and depth <= 1:
            field = next(iter(fields(level[position:])), None)
            if field is not None and (new := names.get(_string(field))) is not None:
                yield _value(field, new)


def _strings(field: Field) -> list[Any]:
    return [token for token in field.inside if token.kind == "string"]


def _string(field: Field) -> str:
    """Adjacent strings are one value."""
    return "".join(token.text[1:-1] for token in _strings(field))


def _value(field: Field, new: str) -> tuple[int, int, str]:
    found = _strings(field)
    return found[0].start, found[-1].end, f'"{new}"'


def _values(config: Any, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(config, Mapping):
        if not config and at:
            yield at, "{}"  # dynamic_batching { } says something
        for key, value in config.items():
            yield from _values(value, f"{at}.{key}" if at else str(key))
    elif isinstance(config, list) and any(isinstance(value, Mapping) for value in config):
        for index, value in enumerate(config):
            label = str(value["name"]) if isinstance(value, Mapping) and value.get("name") else str(index)
            yield from _values(value, f"{at}[{label}]")
    elif isinstance(config, list):
        yield at, ", ".join(map(str, config))
    else:
        yield at, str(config)
