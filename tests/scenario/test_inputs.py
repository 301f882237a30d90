"""Rows of input values, read from JSON lines and from perf_analyzer's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.scenario.inputs import read_inputs


def rows(tmp_path: Path, text: str) -> tuple[Any, ...]:
    file = tmp_path / "inputs.json"
    file.write_text(text)
    return read_inputs(file)


def test_a_row_a_line(tmp_path: Path) -> None:
    lines = '{"A": [1, 2], "B": ["x"]}\n\n{"A": 3, "B": "y"}\n'
    assert rows(tmp_path, lines) == ({"A": [1, 2], "B": ["x"]}, {"A": [3], "B": ["y"]})
    assert rows(tmp_path, '{"A": [1]}') == ({"A": [1]},)
    assert rows(tmp_path, '\ufeff{"A": [1]}') == ({"A": [1]},), "as Windows writes files"


def test_perf_analyzers_input_data(tmp_path: Path) -> None:
    data = [
        {"A": [1, 2], "B": {"content": [1.5, 2.5], "shape": [2, 1]}},
        {"A": {"content": [3]}, "B": {"b64": "AQ==", "shape": [1]}},
    ]
    document = {"data": data, "validation_data": [{"O": [1]}]}
    assert rows(tmp_path, json.dumps(document, indent=2)) == (
        {"A": [1, 2], "B": {"content": [1.5, 2.5], "shape": [2, 1]}},
        {"A": [3], "B": {"b64": "AQ==", "shape": [1]}},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no row in"),
        ('{"data": []}', "found no row in"),
        ("{", "what is not JSON in line 1"),
        ('{"A": [1]}\n{"A":', "what is not JSON in line 2"),
        ("5", "row 1: expected inputs by name, found 5"),
        ("{}", "row 1: expected inputs by name, found a mapping"),
        ('{"data": [{"A": [1]}, 7]}', "row 2: expected inputs by name, found 7"),
        ('{"data": [[{"A": [1]}]]}', "sequences of requests"),
        ('{"A": [[1, 2], [3, 4]]}', "row 1, A: expected flat values, row by row, found a list in them"),
        ('{"A": [null]}', "row 1, A: expected flat values, row by row, found nothing in them"),
        ('{"A": {"shape": [1]}}', "row 1, A: expected either content or b64, found the keys shape"),
        ('{"A": {"content": [1], "b64": ""}}', "row 1, A: expected either content or b64"),
        ('{"A": {"content": [1], "shape": [-1]}}', r"row 1, A: expected a shape such as \[1, 16\], found a list"),
        ('{"A": {"content": [1], "shape": 1}}', r"row 1, A: expected a shape such as \[1, 16\], found 1"),
        ('{"A": {"b64": 1}}', "row 1, A: expected base64 text, found 1"),
    ],
)
def test_what_is_no_row_is_said_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        rows(tmp_path, text)
    assert "\n" not in str(raised.value)
    assert "inputs.json" in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin"
    latin.write_bytes(b"\xff")
    for file, reason in ((tmp_path / "none", "No such file"), (tmp_path, "directory"), (latin, "not UTF-8")):
        with pytest.raises(ValueError, match=reason):
            read_inputs(file)
