"""A user's own scorers: what they give, and that nothing but scores counts as scores."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.scoring import Case, Scorer, ScorerFailed, ScorerSpec, make
from tests.processes import gone
from tests.waiting import until

CASES = [Case("One?", "one", "one"), Case("Two?", "three", "two"), Case("Ünï?", "", None)]


def own(tmp_path: Path, body: str) -> Scorer:
    path = tmp_path / "mine.py"
    path.write_text(f"def score(prompt, answer, expected):\n    {body}\n")
    return make(ScorerSpec("mine", use=f"{path}:score"))


def program(tmp_path: Path, body: str, timeout_s: float = 30.0) -> Scorer:
    path = tmp_path / "score.py"
    path.write_text(f"import json, sys, time\n{body}\n")
    return make(ScorerSpec("program", command=(sys.executable, "score.py"), folder=tmp_path, timeout_s=timeout_s))


def test_a_function_in_a_file(tmp_path: Path) -> None:
    assert own(tmp_path, "return answer == expected")(CASES) == [1.0, 0.0, 0.0]
    assert own(tmp_path, "return len(answer) / 10")(CASES) == [0.3, 0.5, 0.0]


def test_a_function_in_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_scorers.py").write_text("def half(prompt, answer, expected):\n    return 0.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert make(ScorerSpec("m", use="their_scorers:half"))(CASES[:2]) == [0.5, 0.5]


def test_an_installed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text("def right(prompt, answer, expected):\n    return 1\n")
    about = tmp_path / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[triton_canary.scorers]\nright-or-wrong = theirs:right\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert make(ScorerSpec("e", use="right-or-wrong"))(CASES[:1]) == [1.0]
    with pytest.raises(ScorerFailed, match=r"no such scorer is installed .*right-or-wrong"):
        make(ScorerSpec("e", use="left"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('x')", "raised KeyError at answer 1"),
        ("return 1 / len(answer)", "raised ZeroDivisionError at answer 3"),
        ("return 2", "answer 1: expected a score from 0 to 1, found 2"),
        ("return -0.5", "expected a score from 0 to 1"),
        ("return float('nan')", "found nan"),
        ("return None", "found None"),
        ("return '1'", "found '1'"),
    ],
)
def test_what_is_no_score_is_refused(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(ScorerFailed, match=said) as raised:
        own(tmp_path, body)(CASES)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("nobody_has_this:score", "cannot be imported"),
        ("json:nothing", "cannot be imported"),
        ("json:__name__", "expected a function"),
    ],
)
def test_what_cannot_be_found_is_known_at_once(use: str, said: str) -> None:
    with pytest.raises(ScorerFailed, match=said):
        make(ScorerSpec("x", use=use))


def test_a_program_reads_cases_and_writes_scores(tmp_path: Path) -> None:
    body = "for line in sys.stdin:\n    case = json.loads(line)\n    print(float(case['answer'] == case['expected']))"
    assert program(tmp_path, body)(CASES) == [1.0, 0.0, 0.0]
    keys = (
        "wanted = ['prompt', 'answer', 'expected', 'tool_calls']\n"
        "for line in sys.stdin:\n    print(float(list(json.loads(line)) == wanted))"
    )
    assert program(tmp_path, keys)(CASES) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print(1); sys.exit('out of luck')", "ended with 1: out of luck"),
        ("print(1)", "expected 3 scores, found 1"),
        ("print('1\\n' * 4)", "expected 3 scores, found 4"),
        ("print('1\\ngood\\n0')", "expected one score a line"),
        ("print('1\\n7\\n0')", "answer 2: expected a score from 0 to 1"),
        ("print('1\\nnan\\n0')", "answer 2: expected a score from 0 to 1"),
        ("", "expected 3 scores, found 0"),
    ],
)
def test_a_program_that_fails_gives_no_scores(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(ScorerFailed, match=said) as raised:
        program(tmp_path, body)(CASES)
    assert "\n" not in str(raised.value)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScorerFailed, match="cannot be started"):
        make(ScorerSpec("x", command=("./nothing-like-it",), folder=tmp_path))(CASES)


@pytest.fixture
def once_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The limit of a program counts from the moment at which this file is there."""
    file, communicate = tmp_path / "pid", subprocess.Popen.communicate

    def later(process: subprocess.Popen[str], *arguments: Any, **named: Any) -> tuple[str, str]:
        until(file.exists, "the program has started what it starts")
        return communicate(process, *arguments, **named)

    monkeypatch.setattr(subprocess.Popen, "communicate", later)
    return file


STARTS = """
import pathlib, subprocess
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(sleeper, start_new_session={})
pathlib.Path("new").write_text(str(child.pid))
pathlib.Path("new").rename("pid")
{}
"""


def test_a_program_that_never_ends_is_ended_with_all_that_it_started(tmp_path: Path, once_started: Path) -> None:
    with pytest.raises(ScorerFailed, match=r"no scores within 1 s"):
        program(tmp_path, STARTS.format(False, "time.sleep(600)"), timeout_s=1.0)(CASES)
    pid = once_started.read_text()
    with suppress(psutil.NoSuchProcess):
        child = psutil.Process(int(pid))
        until(lambda: gone(child), f"the end of process {pid}")


def test_what_it_started_in_another_session_holds_nobody_up(tmp_path: Path, once_started: Path) -> None:
    begun_s = time.monotonic()
    with pytest.raises(ScorerFailed, match=r"no scores within 1 s"):
        program(tmp_path, STARTS.format(True, "print('1\\n' * 3)"), timeout_s=1.0)(CASES)
    psutil.Process(int(once_started.read_text())).kill()
    assert time.monotonic() - begun_s < 60


def test_a_program_that_reads_nothing_stops_nobody(tmp_path: Path) -> None:
    many = [Case("p" * 1000, "a" * 1000)] * 1000
    assert len(program(tmp_path, "print('1\\n' * 1000)")(many)) == 1000
