"""`history` from argv to exit code, on runs as nights leave them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.errors import RecordingError
from harness.history.place import FolderPlace
from tests.cli.conftest import Call
from tests.history.factory import GPU, LEVELS, commit, meta, nights, run_folder
from tests.report import factory as recordings

STEP_AT = 45
NEW_DRIVER = {"host": {**meta(0)["host"], "gpus": [{**GPU, "driver": "555.42.06"}]}}


@pytest.fixture
def add(call: Call, tmp_path: Path) -> Callable[..., None]:
    def all_of(*folders: Path) -> None:
        done = call("history", "add", *folders, "--history", tmp_path / "h")
        assert (done.code, done.stdout) == (0, f"{len(folders)} added to {tmp_path / 'h'}\n"), done.stderr

    return all_of


def test_sixty_nights_and_a_step_of_ten_per_cent(call: Call, add: Callable[..., None], tmp_path: Path) -> None:
    history = ("--history", tmp_path / "h")
    runs = nights(tmp_path / "runs", range(60), step_at=STEP_AT)
    add(*runs[:STEP_AT])

    calm = call("history", "check", runs[STEP_AT - 1], *history, "--metric", "ttft.p50")
    assert (calm.code, "as before" in calm.stdout) == (0, True), calm.stdout

    red = call("history", "check", *runs[STEP_AT : STEP_AT + 3], *history, "--commit", commit(STEP_AT + 2))
    assert red.code == 1
    assert "worse" in red.stdout
    assert f"Between {commit(STEP_AT - 1)[:10]} and {commit(STEP_AT + 2)[:10]}" in red.stdout
    repeats = ("history", "check", *runs[STEP_AT : STEP_AT + 3], *history, "--commit", commit(STEP_AT + 2), "--json")
    document = json.loads(call(*repeats).stdout)
    failed = {one["metric"] for one in document["findings"] if one["outcome"] == "fail"}
    assert {"ttft.p50", "ttft.p99"} <= failed
    assert not failed & {"tpot.p50", "errors", "request_throughput"}
    assert (document["verdict"], document["exit_code"], document["history"]) == ("rollback", 1, STEP_AT)

    add(*runs[STEP_AT:])
    used = call("history", "check", runs[-1], *history, "--metric", "ttft.p50")
    assert used.code in (0, 3), "after the step, its level is what a run is held against"
    assert "became worse before, between" in used.stdout

    page = tmp_path / "history.html"
    drawn = call("history", "report", *history, "-o", page)
    assert (drawn.code, drawn.stdout) == (0, "")
    text = page.read_text()
    assert f"between {commit(STEP_AT - 1)[:10]} and" in text or f"between {commit(STEP_AT - 2)[:10]} and" in text
    assert "ttft.p50" in text
    assert "Some runs are missing" not in text


def test_a_lasting_step_turns_a_check_red_once_it_can_be_told(
    call: Call, add: Callable[..., None], tmp_path: Path
) -> None:
    """One run alone seldom tells 10 % of 3 % noise: of the nights after the step, one is red all the same."""
    runs = nights(tmp_path / "runs", range(36), step_at=30, seed=5)
    add(*runs[:31])
    history = ("--history", tmp_path / "h")
    codes = []
    for run in runs[31:]:
        done = call("history", "check", run, *history, "--add")
        codes.append(done.code)
        if done.code == 1:
            assert f"it began between {commit(29)[:10]} and {commit(30)[:10]}, and" in " ".join(done.stdout.split())
            assert f"Between {commit(29)[:10]} and " in done.stdout
    assert codes.count(1) == 1, codes
    assert codes[-1] != 1, "what was told, and added all the same, is the level from then on"


def test_a_folder_that_is_named_twice_is_one_run(call: Call, add: Callable[..., None], tmp_path: Path) -> None:
    runs = nights(tmp_path / "runs", range(7))
    add(*runs[:6])
    args = ("history", "check", "--history", tmp_path / "h", "--json")
    once, twice = (json.loads(call(*args, *[runs[6]] * times).stdout) for times in (1, 2))
    assert once == twice


def test_runs_of_other_commits_are_no_repeats(call: Call, tmp_path: Path) -> None:
    one, other = nights(tmp_path / "runs", range(2))
    done = call("history", "check", one, other, "--history", tmp_path / "h")
    assert done.code == 2
    assert f"is of commit {commit(1)[:10]}" in done.stderr
    assert call("history", "check", one, other, "--history", tmp_path / "h", "--commit", "x").code == 3


def test_what_was_found_is_told_though_it_cannot_be_added(
    call: Call, add: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = nights(tmp_path / "runs", range(7))
    add(*runs[:6])

    def full(*_: object) -> None:
        raise RecordingError("h/x.parquet: cannot be written: No space left on device")

    monkeypatch.setattr(FolderPlace, "put", full)
    done = call("history", "check", runs[6], "--history", tmp_path / "h", "--add")
    assert (done.code, "against 6 runs" in done.stdout) == (4, True)
    assert "No space left on device" in done.stderr


def test_a_name_from_elsewhere_steers_no_terminal(call: Call, tmp_path: Path) -> None:
    bad = run_folder(tmp_path, 0, LEVELS, name="\x1b[31mred", finished=False)
    done = call("history", "add", bad, "--history", tmp_path / "h")
    assert "does not count" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_new_machine_begins_a_segment_and_says_so(call: Call, add: Callable[..., None], tmp_path: Path) -> None:
    history = ("--history", tmp_path / "h")
    add(*nights(tmp_path / "old", range(12)))
    new = nights(tmp_path / "new", range(12, 20), **NEW_DRIVER)
    first = call("history", "check", new[0], *history)
    assert first.code == 3
    assert "driver 550.54.15 -> 555.42.06" in first.stdout
    assert "5 runs of this kind on this machine" in first.stdout
    ignored = call("history", "check", new[0], *history, "--ignore", "driver", "--metric", "ttft.p50")
    assert (ignored.code, "against 12 runs" in ignored.stdout) == (0, True), ignored.stdout
    add(*new[:2])
    few = call("history", "check", new[2], *history)
    assert few.code == 3
    assert "3 more" in few.stdout, few.stdout
    add(*new[2:])
    page = tmp_path / "history.html"
    assert call("history", "report", *history, "-o", page).code == 0
    assert "driver 550.54.15 -&gt; 555.42.06" in page.read_text()


def test_what_says_nothing_is_kept_and_does_not_count(call: Call, tmp_path: Path) -> None:
    history = ("--history", tmp_path / "h")
    bad = run_folder(tmp_path, 0, LEVELS, finished=False)
    done = call("history", "add", bad, *history)
    assert "does not count: it did not finish" in done.stderr
    listed = call("history", "list", *history)
    assert "does not count: it did not finish" in listed.stdout
    (row,) = json.loads(call("history", "list", *history, "--json").stdout)["runs"]
    assert (row["counts"], row["verdict"]) == (False, "promote")
    assert call("history", "check", bad, *history).code == 3


def test_check_adds_nothing_unless_asked(call: Call, tmp_path: Path) -> None:
    history = ("--history", tmp_path / "h")
    (run,) = nights(tmp_path / "runs", [0])
    assert call("history", "check", run, *history).code == 3
    assert not (tmp_path / "h").exists()
    assert call("history", "check", run, *history, "--add").code == 3
    assert json.loads(call("history", "list", *history, "--json").stdout)["runs"][0]["name"] == run.name


def test_histories_of_two_jobs_become_one(call: Call, tmp_path: Path) -> None:
    first, second = nights(tmp_path / "runs", [0, 1])
    call("history", "add", first, "--history", tmp_path / "one")
    call("history", "add", second, first, "--history", tmp_path / "two")
    done = call("history", "add", tmp_path / "two", "--history", tmp_path / "one")
    assert "added to" in done.stdout
    assert "2 of 2 runs" in call("history", "list", "--history", tmp_path / "one").stdout


def test_a_recording_without_a_verdict_is_judged(call: Call, tmp_path: Path) -> None:
    """Bare samples, as another tool's importer or somebody else wrote them."""
    samples = recordings.recording(plans=recordings.PLANS[:1]).samples
    pq.write_table(samples, tmp_path / "samples.parquet")
    done = call("history", "add", tmp_path / "samples.parquet", "--history", tmp_path / "h")
    assert done.code == 0, done.stderr
    (row,) = json.loads(call("history", "list", "--history", tmp_path / "h", "--json").stdout)["runs"]
    assert {"ttft.p50", "errors"} <= {one["metric"] for one in row["figures"]}


def test_a_damaged_file_is_said_by_every_command(call: Call, tmp_path: Path) -> None:
    history = ("--history", tmp_path / "h")
    first, second = nights(tmp_path / "runs", [0, 1])
    call("history", "add", first, *history)
    (file,) = (tmp_path / "h").glob("*.parquet")
    file.write_bytes(b"PAR1")
    call("history", "add", second, *history)
    for command in (("list",), ("check", second), ("report", "-o", tmp_path / "p.html"), ("add", second)):
        done = call("history", *command, *history)
        assert f"{file.name}: is no whole Parquet file" in done.stderr, command
    assert "Some runs are missing here" in (tmp_path / "p.html").read_text()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("add", "nowhere"), "nowhere: no such file or folder"),
        (("check", "nowhere"), "nowhere: no such file or folder"),
        (("report",), "there are no runs in this history yet"),
        (("check", "run", "--smallest", "5"), "expected a percentage"),
        (("check", "run", "--alpha", "0%"), "expected more than nothing"),
        (("check", "run", "--ignore", "kernel"), "invalid choice: 'kernel'"),
        (("list", "--history", "gs://bucket/x"), "gs:// holds no history"),
    ],
)
def test_wrong_usage_is_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    done = call("history", *args)
    assert (done.code, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_metric_that_is_not_there_is_named(call: Call, add: Callable[..., None], tmp_path: Path) -> None:
    runs = nights(tmp_path / "runs", range(2))
    add(runs[0])
    done = call("history", "check", runs[1], "--history", tmp_path / "h", "--metric", "ttft.p42")
    assert (done.code, "--metric ttft.p42: this run has errors, " in done.stderr) == (2, True)


def test_runs_that_are_no_repeats_are_refused(call: Call, tmp_path: Path) -> None:
    (one,) = nights(tmp_path / "a", [0])
    (other,) = nights(tmp_path / "b", [1], git={"head": commit(0)}, **NEW_DRIVER)
    done = call("history", "check", one, other, "--history", tmp_path / "h")
    assert done.code == 2
    assert "check them one by one" in done.stderr


def test_a_check_imports_neither_pandas_nor_matplotlib_nor_the_judge(add: Callable[..., None], tmp_path: Path) -> None:
    """They take longer than the check itself."""
    runs = nights(tmp_path / "runs", range(8))
    add(*runs[:7])
    code = (
        "import sys; from harness.cli import main; main(sys.argv[1:]); "
        "sys.exit(' '.join({'pandas', 'matplotlib', 'harness.judge', 'boto3'} & {*sys.modules}) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "history", "check", runs[7], "--history", tmp_path / "h"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
