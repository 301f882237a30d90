"""What each step of an ensemble took, as rows: for the page and for Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.recording import stage_records
from harness.recording.steps import StepTimes, pipelines, step_times
from harness.report import words
from harness.types import Verdict

if TYPE_CHECKING:
    from harness.recording import Recording

HEADINGS = ("step", "asked by", "answers", "queue", "input", "compute", "output", "a request", "of the whole")
MEANING = (
    "Means a request by Triton's own counters, over all that a version answered in the stage, requests that score "
    "answers among them. A step that both ensembles share has one mean for both. Hand-over between steps is in none."
)


@dataclass(frozen=True)
class Table:
    """`rows` under HEADINGS."""

    stage: str
    rows: tuple[tuple[str, ...], ...]


def tables(recording: Recording) -> tuple[Table, ...]:
    """One for each stage in which the arms' ensembles answered anything; () where the arms are no ensembles."""
    arms = pipelines(recording.meta)
    wholes = {pipeline.device for pipeline in arms.values()}
    found = []
    for stage in stage_records(recording.meta) if arms else ():
        if stage.plan.purpose != "compare":
            continue
        times = step_times(recording.readings, arms, stage.begin_ns, stage.end_ns)
        if times:
            found.append(
                Table(words.stage_name(stage.plan), tuple(_row(step, step.device in wholes) for step in times))
            )
    return tuple(found)


def line(verdict: Verdict) -> str:
    """What the steps say in which the arms differ, in the last stage that tells; "" where nothing does."""
    for stage in reversed(verdict.stages):
        found = [f for f in stage.findings if f.metric.startswith("steps.") and f.unit == "ratio"]
        if found:
            return "; ".join(finding.reason.removeprefix("for information: ") for finding in found)
    return ""


def _row(step: StepTimes, whole: bool) -> tuple[str, ...]:
    parts = [words.seconds(part) for part in (step.queue_s, step.input_s, step.infer_s, step.output_s)]
    return (
        f"{step.model}, end to end" if whole else f"{step.model} version {step.version}",
        " and ".join(step.arms),
        f"{step.answers:,}",
        *((words.NONE,) * 4 if whole else parts),
        words.seconds(step.total_s),
        words.percent(step.share),
    )
