"""Where a run under way is, in words that follow from its files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.recording import Recording
from harness.recording.schema import READINGS, SAMPLES
from harness.report import progress
from harness.report.progress import Step
from harness.types import Reading, StageRecord
from tests.report.factory import NS, PLANS, table

NOW = "Under way: models.set (host/tiny)."
SECOND = "Stage 2 of 5, split 10 %"
BEGUN, DONE = Step("models.set", "host/tiny", "begun"), Step("route.set", "split", "done")


def recording(stages: list[StageRecord], seen_s: float = 0.0) -> Recording:
    meta = {"plans": [asdict(plan) for plan in PLANS], "stages": [asdict(stage) for stage in stages]}
    readings = table([Reading(int(seen_s * NS), "host", "host", "memory.used", 1.0, "bytes")], READINGS)
    return Recording(Path(), meta, SAMPLES.empty_table(), readings=readings if seen_s else None)


@pytest.mark.parametrize(
    ("stage", "sentence", "undecided"),
    [
        (StageRecord(PLANS[1], 10 * NS), f"{SECOND}: 7 s of 20 s.", 1),
        (StageRecord(replace(PLANS[1], until_decided=True), 10 * NS), f"{SECOND}: 7 s of 20 s at most.", 1),
        (StageRecord(PLANS[1], 20 * NS), f"{SECOND}: 0 s of 20 s.", 1),
        (StageRecord(PLANS[1], 10 * NS, 16 * NS), f"{SECOND}, is over. {NOW}", 1),
        (StageRecord(PLANS[1], 10 * NS, 16 * NS, 16 * NS), f"{SECOND}, is over. {NOW}", -1),
    ],
)  # fmt: skip
def test_a_stage_is_told_by_what_is_on_disk(stage: StageRecord, sentence: str, undecided: int) -> None:
    first = StageRecord(PLANS[0], 0, 9 * NS)
    found = progress.of_run(recording([first, stage], 17.0), [DONE, BEGUN])
    assert (found.sentence, found.undecided) == (sentence, undecided)


def test_before_the_load_there_is_what_is_being_done() -> None:
    assert progress.of_run(recording([]), []).sentence == "No load yet."
    assert progress.of_run(recording([]), [BEGUN]).sentence == f"No load yet. {NOW}"
    assert progress.of_operation([]).sentence == "It has just begun."


def test_the_newest_steps_come_first_and_not_all_of_them() -> None:
    found = progress.of_operation([Step("sync", str(number), "done") for number in range(100)])
    assert found.sentence == "It has just begun."
    assert [step.target for step in found.steps] == [str(number) for number in range(99, 69, -1)]
