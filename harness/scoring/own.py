"""A user's own scorers: a Python function, or a program."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from harness.scoring.scorer import GROUP, Case, Scorer, ScorerFailed


def function(use: str) -> Scorer:
    """`module:function`, `file.py:function`, or the name of an entry point: a function of (prompt, answer, expected)
    that gives a number from 0 to 1, true or false. Raises ScorerFailed where it cannot be imported.
    """
    call = _found(use)

    def score(cases: Sequence[Case]) -> list[Any]:
        scores = []
        for number, case in enumerate(cases, 1):
            try:
                scores.append(call(case.prompt, case.answer, case.expected))
            except Exception as error:
                raise ScorerFailed(f"{use} raised {type(error).__name__} at answer {number}: {_line(error)}") from error
        return scores

    return score


def _found(use: str) -> Callable[[str, str, Any], Any]:
    place, _, name = use.rpartition(":")
    try:
        if not place:
            found = next((point for point in entry_points(group=GROUP) if point.name == use), None)
            if found is None:
                known = ", ".join(sorted(point.name for point in entry_points(group=GROUP))) or "none"
                raise ScorerFailed(f"{use}: no such scorer is installed (entry points {GROUP}: {known})")
            call: Any = found.load()
        else:
            call = getattr(_file(Path(place)) if place.endswith(".py") else importlib.import_module(place), name)
    except ScorerFailed:
        raise
    except Exception as error:  # whatever a module of somebody else does when it is imported
        raise ScorerFailed(f"{use}: cannot be imported: {type(error).__name__}: {_line(error)}") from error
    if not callable(call):
        raise ScorerFailed(f"{use}: expected a function, found {type(call).__name__}")
    return call  # type: ignore[no-any-return]


def _file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"scorer_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(words: Sequence[str], folder: Path, timeout_s: float) -> Scorer:
    """A program that reads JSON lines of {prompt, answer, expected, tool_calls} and writes one score a line, in their
    order. It and all that it started are ended at the time limit.
    """

    def score(cases: Sequence[Case]) -> list[float]:
        lines = "".join(json.dumps(case._asdict()) + "\n" for case in cases)
        output = _run(words, lines, folder, timeout_s)
        try:
            return [float(line) for line in output.splitlines() if line.strip()]
        except ValueError as error:
            raise ScorerFailed(f"{words[0]}: expected one score a line, {_line(error)}") from error

    return score


def _run(words: Sequence[str], lines: str, folder: Path, timeout_s: float) -> str:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as given:
        # A file and not a pipe: a program that reads nothing must not stop us.
        given.write(lines)
        given.seek(0)
        try:
            process = subprocess.Popen(
                words, cwd=folder, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                encoding="utf-8", errors="replace", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ScorerFailed(f"{words[0]}: cannot be started: {error.strerror}") from error
        # Its pipes are closed on the way out and not read to their end: a process of another session may hold them.
        with process:
            try:
                output, said = process.communicate(timeout=timeout_s)
            except BaseException as error:  # Ctrl-C, too: nothing of it stays behind
                os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise ScorerFailed(f"{words[0]}: gave no scores within {timeout_s:g} s") from error
                raise
    if process.returncode != 0:
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise ScorerFailed(f"{words[0]}: ended with {process.returncode}: {last[:200]}")
    return output


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
