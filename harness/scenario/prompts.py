"""Prompts: JSON lines, each an object with its text in `prompt`, `max_tokens` where it is not the load's, and in
`expected` what a scorer holds the answer against.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness.errors import ScenarioError
from harness.types import Prompt
from harness.units import found


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a file, in its order; blank lines and other keys are passed over.

    Raises ValueError if there is no such file or it has no prompts, and ScenarioError naming file and line if
    a line is not such an object.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError as error:
        raise ValueError(f"expected a file of prompts, found no file {path}") from error
    except OSError as error:
        raise ValueError(f"expected a file of prompts, found {path}: {error.strerror}") from error
    prompts = tuple(_prompt(line, path, number) for number, line in enumerate(lines, 1) if line.strip())
    if not prompts:
        raise ValueError(f"expected a file of prompts, found no prompt in {path}")
    return prompts


def _prompt(line: bytes, path: Path, number: int) -> Prompt:
    expected = 'expected a line such as {"prompt": "..."}'
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        message = f"{expected}, found what is not JSON ({error.msg})"
        raise ScenarioError(message, file=str(path), line=number, column=error.colno) from error
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{expected}, found what is not UTF-8", file=str(path), line=number) from error
    if not isinstance(entry, dict) or "prompt" not in entry:
        what = f"the keys {', '.join(map(repr, entry)) or 'none'}" if isinstance(entry, dict) else found(entry)
        raise ScenarioError(f"{expected}, found {what}", file=str(path), line=number)
    text = entry["prompt"]
    if not isinstance(text, str) or not text.strip():
        raise ScenarioError(f"expected some text, found {found(text)}", file=str(path), line=number, key="prompt")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ScenarioError(
            "expected text, found half a character", file=str(path), line=number, key="prompt"
        ) from error
    most = entry.get("max_tokens")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        message = f"expected a whole number from 1 up, found {found(most)}"
        raise ScenarioError(message, file=str(path), line=number, key="max_tokens")
    return Prompt(text, most, expected=entry.get("expected"))


def read_units(path: Path) -> tuple[tuple[str, str], ...]:
    """Of each prompt of a file that was read: its `unit`, and the `experiment` (A or B) that its client names, "" where
    it names none. () where no line has a unit.

    Raises ScenarioError naming file and line where some lines have one and others do not, or where a unit's client
    names now this, now that: it could not stay with its arm.
    """
    named: list[tuple[str, str]] = []
    first: dict[str, str] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        entry = json.loads(line)
        unit, label = entry.get("unit", ""), entry.get("experiment", "")
        if not isinstance(unit, str) or label not in ("", "A", "B"):
            key, value, expected = (
                ("unit", unit, "a name such as user-1")
                if not isinstance(unit, str)
                else ("experiment", label, "A or B")
            )
            message = f"expected {expected}, found {found(value)}"
            raise ScenarioError(message, file=str(path), line=number, key=key)
        named.append((unit, label))
        if label and not unit:
            raise ScenarioError("names an experiment and no unit", file=str(path), line=number, key="experiment")
        if bool(unit) != bool(named[0][0]):
            message = "expected a unit in every line, or in none"
            raise ScenarioError(message, file=str(path), line=number, key="unit")
        if unit and first.setdefault(unit, label) != label:
            message = (
                f"{unit} sends {label or 'no header'} here, and {first[unit] or 'none'} before: it would see both arms"
            )
            raise ScenarioError(message, file=str(path), line=number, key="experiment")
    return tuple(named) if named and named[0][0] else ()
