"""The scorers that are there already. Each gives 1 (right) or 0 (wrong).

exact      the answer is the expected text, or one of a list of texts; space around it does not count
contains   the expected text, or one of a list, is in it
regex      the pattern, or the expected one, is found in it
json       it is JSON (alone, or in a code block), and fits the schema if there is one
tool_call  it calls the expected tool: {"name": "...", "arguments": {...}}; without arguments any will do
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from harness.scoring.scorer import Case, Scorer, ScorerFailed, ScorerSpec

_BLOCK = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def built_in(spec: ScorerSpec) -> Scorer:
    """One of BUILT_IN. Raises ScorerFailed for a schema that is none."""
    right = BUILT_IN[spec.use or ""](spec)
    return lambda cases: [float(right(case)) for case in cases]


def _exact(_: ScorerSpec) -> Callable[[Case], bool]:
    return lambda case: any(case.answer.strip() == text.strip() for text in _texts(case.expected))


def _contains(_: ScorerSpec) -> Callable[[Case], bool]:
    return lambda case: any(text in case.answer for text in _texts(case.expected))


def _regex(spec: ScorerSpec) -> Callable[[Case], bool]:
    def right(case: Case) -> bool:
        patterns = [spec.pattern] if spec.pattern is not None else _texts(case.expected)
        try:
            return any(re.search(pattern, case.answer) for pattern in patterns)
        except re.error as error:
            raise ScorerFailed(f"expected a regular expression, found {case.expected!r:.80} ({error})") from error

    return right


def _json(spec: ScorerSpec) -> Callable[[Case], bool]:
    if spec.schema is None:
        return lambda case: _parsed(case.answer) is not _NONE
    import jsonschema  # a quarter of a second that only this one needs

    try:
        schema = json.loads(spec.schema.read_text(encoding="utf-8"))
        kind = jsonschema.validators.validator_for(schema)
        kind.check_schema(schema)
    except (OSError, ValueError, jsonschema.SchemaError) as error:
        raise ScorerFailed(f"expected a JSON Schema, found {spec.schema}: {str(error).splitlines()[0]}") from error
    validator = kind(schema)

    def right(case: Case) -> bool:
        document = _parsed(case.answer)
        return document is not _NONE and bool(validator.is_valid(document))

    return right


def _tool_call(_: ScorerSpec) -> Callable[[Case], bool]:
    def right(case: Case) -> bool:
        wanted = case.expected
        if not isinstance(wanted, dict) or not isinstance(wanted.get("name"), str):
            raise ScorerFailed(f'expected a call such as {{"name": "search"}}, found {wanted!r:.80}')
        return any(
            call.get("name") == wanted["name"]
            and isinstance(arguments := _arguments(call), dict)
            and ("arguments" not in wanted or arguments == wanted["arguments"])
            for call in _calls(case)
        )

    return right


def _calls(case: Case) -> list[dict[str, Any]]:
    """The calls of an answer: those that the engine parsed, else those that are written in its text."""
    if case.tool_calls:
        found: Any = _parsed(case.tool_calls)
    else:
        pieces = _CALL.findall(case.answer) or [case.answer]
        found = [_parsed(piece) for piece in pieces]
        found = found[0] if len(found) == 1 and isinstance(found[0], list) else found
    return [call for call in found if isinstance(call, dict)] if isinstance(found, list) else []


def _arguments(call: dict[str, Any]) -> Any:
    """As an object: OpenAI has them as JSON in text, Llama calls them parameters."""
    arguments = call.get("arguments", call.get("parameters", {}))
    return _parsed(arguments) if isinstance(arguments, str) else arguments


_NONE = object()


def _parsed(text: str) -> Any:
    """The JSON of a text, alone or in its first code block; _NONE where it is none. NaN is no JSON."""
    block = _BLOCK.search(text)
    try:
        return json.loads(block[1] if block else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _NONE


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _texts(expected: Any) -> Sequence[str]:
    every = expected if isinstance(expected, list) else [expected]
    return [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in every]


BUILT_IN: dict[str, Callable[[ScorerSpec], Callable[[Case], bool]]] = {
    "exact": _exact,
    "contains": _contains,
    "regex": _regex,
    "json": _json,
    "tool_call": _tool_call,
}
