"""What a report says of the checkout that it compares."""

from __future__ import annotations

from harness.report.changed import Changed, lines

GIT = {
    "base": "a" * 40, "ref": "origin/main", "head": "b" * 40, "dirty": True, "folder": "models/llm", "model": "llm",
    "changed": [
        {"path": "llm/1/model.py", "before": 10, "after": 12},
        {"path": "llm/1/model.plan", "before": 3 * 2**30, "after": 3 * 2**30},
        {"path": "llm/2/new", "before": None, "after": 5},
        {"path": "llm/old", "before": 7, "after": None},
    ],
    "changed_count": 9,
    "config": [{"file": "llm/config.pbtxt", "key": "max_batch_size", "before": "", "after": "16"}],
    "commits": [{"sha": "c" * 40, "subject": "line one\nline two \x1b[31m"}],
    "commit_count": 23, "ignored": ["models/llm/a", "models/llm/b", "models/llm/c", "models/llm/d"],
}  # fmt: skip


def test_every_difference_is_a_line() -> None:
    told = lines({"git": GIT})
    assert told[0] == (
        "models/llm: baseline aaaaaaa (origin/main), candidate bbbbbbb, with changes that are not committed"
    )
    assert told[1:7] == [
        "llm/1/model.py: changed, 10 bytes -> 12 bytes",
        "llm/1/model.plan: changed, 3.00 GiB as before",
        "llm/2/new: new, 5 bytes",
        "llm/old: removed, 7 bytes",
        "llm/config.pbtxt: max_batch_size: – -> 16",
        told[6],
    ]
    assert told[6].startswith("ccccccc line one line two")
    assert not any("\x1b" in line or "\n" in line for line in told)
    assert told[7:] == [
        "5 more files",
        "22 more commits before these",
        "not in git, so both builds have the working tree's: models/llm/a, models/llm/b, models/llm/c, ...",
    ]


def test_a_run_of_no_checkout_says_nothing() -> None:
    assert lines({}) == []
    assert lines({"git": {"head": "b" * 40, "dirty": False}}) == []
    assert Changed.of({"git": None}) is None


def test_a_base_that_was_named_by_its_commit_is_named_once() -> None:
    assert lines({"git": {**GIT, "ref": "a" * 40}})[0].startswith("models/llm: baseline aaaaaaa, candidate bbbbbbb")
