"""report.html: one file, no network. Everything on it follows from the recording and the verdict."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from harness.recording import gates, stage_records
from harness.report import blocks, examples, facts, figures, frame, measurement, panels, steps, words
from harness.report.about import arm_titles, reasons, summary_line, title, unread
from harness.report.changed import Changed
from harness.report.load import loads
from harness.report.progress import Progress
from harness.report.quality import quality
from harness.report.requests import (
    ANSWERED,
    ARMS,
    FAILED,
    SCORED,
    SCORING_FAILED,
    Requests,
    equal_load,
    extent,
    requests,
)
from harness.types import Finding, Look, StageRecord, Verdict

if TYPE_CHECKING:
    from harness.recording import Recording

_PLAN = "plan."
"""Of findings that say what the stages can tell; they stand with the plan."""
_PLACED = ("errors", "quality", "memory")
"""Judged quantities that have a section of their own, as latencies have."""
_LONGEST_FACT = 400
_MOST_FACTS = 150
_MOST_ERROR_ROWS = 30
_MOST_READING_ROWS = 60


def page(
    recording: Recording, verdict: Verdict, looks: Sequence[Look] = (), *, progress: Progress | None = None
) -> str:
    """The whole page as text. The same recording, verdict and looks give the same bytes. `looks`: the evidence over
    time, as the judge made it. With `progress` it is the page of a run under way, and follows it.
    """
    context = {**_context(recording, verdict, looks), "progress": progress}
    return frame.render("page.html.j2", context, live=progress is not None)


def _context(recording: Recording, verdict: Verdict, looks: Sequence[Look]) -> dict[str, Any]:
    meta = recording.meta
    stages, rules = stage_records(meta), gates(meta)
    plans = [stage.plan for stage in stages]
    series = facts.readings(recording)
    outputs = quality(recording)
    time = _time_axis(extent(recording), series, stages)
    gated = {rule.metric.partition(".")[0] for rule in rules}
    data = requests(recording, time.bins(), [plan.index for plan in plans], icl="icl" in gated)
    fair, fair_words = equal_load(plans)
    names = {plan.index: words.stage_name(plan) for plan in plans}

    def name(finding: Finding) -> str:
        return f"{finding.metric} · {finding.stage + 1}" if len(verdict.stages) > 1 else finding.metric

    # A watch that passed is no news, and five stages of them would bury the comparison.
    rated = [finding for finding in verdict.findings if finding.kind != "validity"]
    compared = [finding for finding in rated if finding.kind == "comparison" or finding.outcome == "fail"] or rated
    beside = blocks.blocks(verdict, looks, time, names)
    latencies = _latencies(data, fair, gated, time)
    placed = (*_PLACED, *(found["metric"] for found in latencies))
    limit = next((rule.limit for rule in rules if rule.metric == "quality.kl"), None)
    return {
        "words": words,
        "verdict": verdict,
        "title": title(meta),
        "summary": summary_line(verdict),
        "reasons": reasons(verdict),
        "arms": arm_titles(meta),
        "changed": Changed.of(meta),
        "started": str(meta.get("started_utc", "")),
        "finished": bool(meta.get("finished", not meta)),
        "outcome_rows": facts.flat(meta.get("outcome", {})),
        "requests": len(data),
        "findings": _by_stage(verdict, names),
        "forest": Markup(figures.forest(compared, name)),
        "beside": beside,
        "over_time": any(block.over_time for block in beside.values()),
        "counted": bool(verdict.findings) and not looks,
        "others": [family for family in beside if family not in placed],
        "latencies": latencies,
        "chosen_words": fair_words,
        "steps": steps.tables(recording),
        "steps_headings": steps.HEADINGS,
        "steps_words": steps.MEANING,
        "totals": _totals(data),
        "errors": data.errors[:_MOST_ERROR_ROWS],
        "errors_left": max(0, len(data.errors) - _MOST_ERROR_ROWS),
        "errors_figure": Markup(figures.errors_over_time(data, time)),
        "quality": examples.section(outputs),
        "quality_figure": Markup(figures.divergence(dict(outputs.kl), limit)),
        "resources_figures": _resources(series, data, verdict, time),
        "readings": panels.rows(series)[:_MOST_READING_ROWS],
        "unread": unread(meta),
        "measurement": measurement.table(verdict, names),
        "calibrated": measurement.calibrated(verdict),
        "stages": _stages(stages, verdict, data),
        "rules": rules,
        "foreseen": _foreseen(verdict, names),
        "seed": meta.get("seed"),
        "facts": [
            (heading, _bounded(facts.flat(meta.get(key, {}))))
            for heading, key in (
                ("Versions", "software"),
                ("Host", "host"),
                ("GPUs", "gpus"),
                ("Server", "server"),
                ("Ingress", "ingress"),
                ("Rollback", "rollback"),
                ("Resumed", "resumed"),
                ("Model", "model"),
                ("Arms", "arms"),
                ("Tokens", "tokens"),
                ("Scenario", "scenario"),
                ("SHA-256 of the files", "files"),
            )
        ],
    }


def _time_axis(
    sent: tuple[float, float] | None, series: Sequence[facts.Series], stages: Sequence[StageRecord]
) -> figures.TimeAxis:
    """`sent`: when the first and the last request were."""
    times = [np.asarray(sent or ()), *(one.t_s for one in series)]
    times += [np.asarray([stage.begin_ns, stage.end_ns or stage.begin_ns]) * 1e-9 for stage in stages]
    every = np.concatenate([found for found in times if len(found)] or [np.asarray([0.0, 1.0])])
    first, last = float(every.min()), float(every.max())
    last = last if last > first else first + 1.0
    return figures.TimeAxis(first, last, facts.spans(stages, last))


def _resources(
    series: Sequence[facts.Series], data: Requests, verdict: Verdict, time: figures.TimeAxis
) -> list[Markup]:
    """The load above memory and the use of what serves; what else was read, by itself."""
    memory = panels.limited(panels.panels(series, panels.MEMORY), verdict.findings)
    used = [*memory, *panels.panels(series, panels.USE)]
    rest = panels.panels(series, panels.REST)
    drawn = [figures.readings(used, time, "memory", loads(data)), figures.readings(rest, time, "load")]
    return [Markup(figure) for figure in drawn if figure]


def _foreseen(verdict: Verdict, names: dict[int, str]) -> list[tuple[str, str, str]]:
    """What the noise says of how much can be told in how long, with the stage that says it and the finding's name."""
    return [
        (names.get(found.stage, str(found.stage + 1)), found.metric, words.plain(found.reason))
        for found in verdict.findings
        if found.metric.startswith(_PLAN)
    ]


def _by_stage(verdict: Verdict, names: dict[int, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": names.get(stage.stage, str(stage.stage + 1)),
            "verdict": stage,
            "findings": [found for found in words.telling(stage.findings) if not words.informs(found)],
            "information": [
                found
                for found in stage.findings
                if words.informs(found)
                and found.metric != measurement.CALIBRATION
                and not found.metric.startswith(_PLAN)
            ],
            # A stage that was only watched, and that nothing happened in, is one line until it is asked for.
            "open": stage.verdict != "promote"
            or any(
                found.outcome == "fail" or found.kind == "comparison" or found.metric == "deploy.errors"
                for found in stage.findings
            ),
        }
        for stage in verdict.stages
    ]


def _latencies(
    data: Requests, fair: Sequence[int] | None, gated: Collection[str], time: figures.TimeAxis
) -> list[dict[str, Any]]:
    there = list(data.metrics)
    if not data.has_tokens:  # the first byte of a single answer is its last: nothing to see
        there = [metric for metric in there if metric not in ("ttft", "tpot") or metric in gated]
    if "response_time" in there and "request_latency" in there and "request_latency" not in gated:
        there.remove("request_latency")
    return [
        {
            "metric": metric,
            "title": words.TITLES[metric],
            "meaning": words.MEANINGS[metric],
            "distribution": Markup(figures.distributions(data, metric, fair)),
            "time": Markup(figures.over_time(data, metric, time)),
            "quantiles": _quantiles(data, metric, fair),
        }
        for metric in there
    ]


def _quantiles(data: Requests, metric: str, fair: Sequence[int] | None) -> list[dict[str, str]]:
    found = []
    for arm in data.arms:
        times = data.times(metric, arm, fair)
        if not len(times):
            continue
        row = {"arm": arm, "n": f"{len(times):,}"}
        for share in (0.5, 0.9, 0.99):
            enough = len(times) >= 10 / (1 - share) - 1e-6 or share == 0.5
            key = f"p{share * 100:.0f}"
            row[key] = words.seconds(float(times.quantile(share))) if enough else words.NONE
        found.append(row)
    return found


def _totals(data: Requests) -> list[dict[str, str]]:
    found = []
    for arm in data.arms:
        asked, failed = data.count(arm), data.count(arm, FAILED, SCORING_FAILED)
        found.append(
            {
                "arm": arm,
                "asked": f"{asked:,}",
                "scoring": f"{data.count(arm, SCORED, SCORING_FAILED):,}",
                "failed": f"{failed:,}",
                "rate": words.percent(failed / asked),
            }
        )
    return found


def _bounded(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """A scenario may carry all its prompts; run.json has the whole of it."""
    short = [(key, text if len(text) <= _LONGEST_FACT else text[:_LONGEST_FACT] + " …") for key, text in rows]
    left = len(short) - _MOST_FACTS
    return short[:_MOST_FACTS] + ([("…", f"{left} more in run.json")] if left > 0 else [])


def _stages(stages: Sequence[StageRecord], verdict: Verdict, data: Requests) -> list[dict[str, Any]]:
    decided = {stage.stage: stage for stage in verdict.stages}
    found = []
    for stage in stages:
        plan = stage.plan
        ran = "not finished" if stage.end_ns is None else words.seconds((stage.end_ns - stage.begin_ns) * 1e-9)
        found.append(
            {
                "name": words.stage_name(plan),
                "load": words.stage_load(plan),
                "planned": words.span(plan.duration_s) + (" at most" if plan.purpose == "deploy" else ""),
                "ran": ran,
                "begin": words.clock(stage.begin_ns * 1e-9),
                "requests": {arm: f"{data.count(arm, ANSWERED, FAILED, stage=plan.index):,}" for arm in ARMS[:2]},
                "verdict": decided.get(plan.index),
            }
        )
    return found
