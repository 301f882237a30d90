"""The scorers that are there already: what is right, and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.scoring import Case, ScorerFailed, ScorerSpec, make


def score(use: str, answer: str, expected: Any = None, tool_calls: str = "", **more: Any) -> float:
    (found,) = make(ScorerSpec("one", use=use, **more))([Case("?", answer, expected, tool_calls)])
    return found


@pytest.mark.parametrize(
    ("use", "answer", "expected", "wanted"),
    [
        ("exact", " Paris\n", "Paris", 1),
        ("exact", "paris", "Paris", 0),
        ("exact", "Paris.", ["Paris", "Paris."], 1),
        ("exact", "7", 7, 1),
        ("contains", "It is Paris.", "Paris", 1),
        ("contains", "It is Rome.", ["Paris", "Lyon"], 0),
        ("regex", "The year 1969", r"\b19\d\d\b", 1),
        ("regex", "The year 2069", r"\b19\d\d\b", 0),
    ],
)
def test_texts(use: str, answer: str, expected: Any, wanted: float) -> None:
    assert score(use, answer, expected) == wanted


def test_a_pattern_of_the_scorer_holds_for_every_prompt() -> None:
    assert score("regex", "Answer: 4", None, pattern=r"^Answer: \d$") == 1
    assert score("regex", "4", "4", pattern=r"^Answer: \d$") == 0
    with pytest.raises(ScorerFailed, match="regular expression"):
        score("regex", "x", "(")


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ('{"a": [1, 2]}', 1),
        ("  [1]\n", 1),
        ('Here:\n```json\n{"a": 1}\n```\nDone.', 1),
        ('{"a": 1', 0),
        ("", 0),
        ('{"a": NaN}', 0),
        ("Sure! {}", 0),
        ("[" * 100_000, 0),
    ],
)
def test_json(answer: str, wanted: float) -> None:
    assert score("json", answer) == wanted


def test_json_that_fits_a_schema(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}))
    assert score("json", '{"name": "x"}', schema=schema) == 1
    assert score("json", '{"name": 1}', schema=schema) == 0
    assert score("json", "[]", schema=schema) == 0
    schema.write_text('{"type": "nothing"}')
    with pytest.raises(ScorerFailed, match="expected a JSON Schema"):
        score("json", "{}", schema=schema)


CALL = {"name": "weather", "arguments": {"city": "Oslo"}}


@pytest.mark.parametrize(
    ("answer", "tool_calls", "wanted"),
    [
        (json.dumps(CALL), "", 1),
        (f"Well. <tool_call>\n{json.dumps(CALL)}\n</tool_call>", "", 1),
        ('[{"name": "weather", "parameters": {"city": "Oslo"}}]', "", 1),
        ("", json.dumps([{"name": "weather", "arguments": '{"city": "Oslo"}'}]), 1),
        ("", json.dumps([{"name": "weather", "arguments": '{"city": "Oslo"'}]), 0),
        ("", json.dumps([{"name": "weather", "arguments": '{"city": "Rome"}'}]), 0),
        (json.dumps({"name": "clock", "arguments": {"city": "Oslo"}}), "", 0),
        ("The weather in Oslo is fine.", "", 0),
        ("7", "", 0),
    ],
)
def test_calls_of_a_tool(answer: str, tool_calls: str, wanted: float) -> None:
    assert score("tool_call", answer, CALL, tool_calls) == wanted


def test_any_arguments_will_do_where_none_are_expected() -> None:
    assert score("tool_call", json.dumps(CALL), {"name": "weather"}) == 1
    with pytest.raises(ScorerFailed, match="expected a call"):
        score("tool_call", json.dumps(CALL), "weather")
