"""report.html: one file, no network. Everything on it follows from the recording and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.recording import gates, stage_records
from harness.report import facts, figures, measurement, panels, steps, words
from harness.report.about import arm_titles, back, summary_line, title, unread
from harness.report.facts import Bools, Requests
from harness.report.quality import Quality, quality
from harness.types import Finding, StageRecord, Verdict

if TYPE_CHECKING:
    from harness.recording import Recording

_LONGEST_TEXT = 1500  # characters of an answer that the page repeats
_LONGEST_FACT = 400
_MOST_FACTS = 150
_MOST_ERROR_ROWS = 30
_MOST_READING_ROWS = 60


def page(recording: Recording, verdict: Verdict) -> str:
    """The whole page as text. The same recording and verdict give the same bytes."""
    environment = Environment(
        loader=PackageLoader("harness.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: words.visible(value) if type(value) is str else value,  # markup is safe already
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(_context(recording, verdict)) + "\n"


def _context(recording: Recording, verdict: Verdict) -> dict[str, Any]:
    meta = recording.meta
    stages, rules = stage_records(meta), gates(meta)
    plans = [stage.plan for stage in stages]
    data = facts.requests(recording)
    series = facts.readings(recording)
    outputs = quality(recording)
    time = _time_axis(data, series, stages)
    failed = facts.errors(recording, data)
    chosen, chosen_words = facts.equal_load(data, plans)
    names = {plan.index: words.stage_name(plan) for plan in plans}

    def name(finding: Finding) -> str:
        return f"{finding.metric} · {finding.stage + 1}" if len(verdict.stages) > 1 else finding.metric

    # A watch that passed is no news, and five stages of them would bury the comparison.
    rated = [finding for finding in verdict.findings if finding.kind != "validity"]
    compared = [finding for finding in rated if finding.kind == "comparison" or finding.outcome == "fail"] or rated
    limit = next((rule.limit for rule in rules if rule.metric == "quality.kl"), None)
    return {
        "words": words,
        "verdict": verdict,
        "title": title(meta),
        "summary": summary_line(verdict),
        "back": back(verdict),
        "arms": arm_titles(meta),
        "started": str(meta.get("started_utc", "")),
        "finished": bool(meta.get("finished", not meta)),
        "outcome_rows": facts.flat(meta.get("outcome", {})),
        "requests": len(data),
        "findings": _by_stage(verdict, names),
        "forest": Markup(figures.forest(compared, name)),
        "latencies": _latencies(data, chosen, rules, time),
        "chosen_words": chosen_words,
        "steps": steps.tables(recording),
        "steps_headings": steps.HEADINGS,
        "steps_words": steps.MEANING,
        "totals": _totals(data),
        "errors": failed[:_MOST_ERROR_ROWS],
        "errors_left": max(0, len(failed) - _MOST_ERROR_ROWS),
        "errors_figure": Markup(figures.errors_over_time(data, time)),
        "quality": _quality(outputs),
        "quality_figure": Markup(figures.divergence(dict(outputs.kl), limit)),
        "memory_figure": Markup(figures.readings(panels.panels(series, panels.MEMORY), time, "memory")),
        "load_figure": Markup(figures.readings(panels.panels(series, panels.LOAD), time, "load")),
        "readings": panels.rows(series)[:_MOST_READING_ROWS],
        "unread": unread(meta),
        "measurement": measurement.table(verdict, names),
        "calibrated": measurement.calibrated(verdict),
        "stages": _stages(stages, verdict, data),
        "rules": rules,
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


def _time_axis(data: Requests, series: Sequence[facts.Series], stages: Sequence[StageRecord]) -> figures.TimeAxis:
    times = [data.at[np.isfinite(data.at)], *(one.t_s for one in series)]
    times += [np.asarray([stage.begin_ns, stage.end_ns or stage.begin_ns]) * 1e-9 for stage in stages]
    every = np.concatenate([found for found in times if len(found)] or [np.asarray([0.0, 1.0])])
    first, last = float(every.min()), float(every.max())
    last = last if last > first else first + 1.0
    return figures.TimeAxis(first, last, facts.spans(stages, last))


def _by_stage(verdict: Verdict, names: dict[int, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": names.get(stage.stage, str(stage.stage + 1)),
            "verdict": stage,
            "findings": [found for found in words.telling(stage.findings) if not words.informs(found)],
            "information": [
                found for found in stage.findings if words.informs(found) and found.metric != measurement.CALIBRATION
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


def _latencies(data: Requests, chosen: Bools, rules: Sequence[Any], time: figures.TimeAxis) -> list[dict[str, Any]]:
    gated = {rule.metric.partition(".")[0] for rule in rules}
    wanted = ["ttft", "tpot", "response_time", "request_latency"]
    if not data.has_tokens:  # the first byte of a single answer is its last: nothing to see
        wanted = [metric for metric in wanted if metric not in ("ttft", "tpot") or metric in gated]
    there = [m for m in wanted if m in data.times and bool(np.isfinite(data.times[m]).any())]
    if "response_time" in there and "request_latency" in there and "request_latency" not in gated:
        there.remove("request_latency")
    return [
        {
            "metric": metric,
            "title": words.TITLES[metric],
            "meaning": words.MEANINGS[metric],
            "distribution": Markup(figures.distributions(data, metric, chosen)),
            "time": Markup(figures.over_time(data, metric, time)),
            "quantiles": _quantiles(data, metric, chosen),
        }
        for metric in there
    ]


def _quantiles(data: Requests, metric: str, chosen: Bools) -> list[dict[str, str]]:
    found = []
    for arm in data.arms:
        values = data.times[metric][data.of(arm) & chosen]
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        row = {"arm": arm, "n": f"{len(values):,}"}
        for share in (0.5, 0.9, 0.99):
            enough = len(values) >= 10 / (1 - share) - 1e-6 or share == 0.5
            key = f"p{share * 100:.0f}"
            row[key] = words.seconds(float(np.quantile(values, share))) if enough else words.NONE
        found.append(row)
    return found


def _totals(data: Requests) -> list[dict[str, str]]:
    found = []
    for arm in data.arms:
        mine = data.arm == facts.ARMS.index(arm)
        asked, failed = int(mine.sum()), int((mine & ~data.ok).sum())
        scoring = int((mine & data.scoring).sum())
        found.append(
            {
                "arm": arm,
                "asked": f"{asked:,}",
                "scoring": f"{scoring:,}",
                "failed": f"{failed:,}",
                "rate": words.percent(failed / asked),
            }
        )
    return found


def _quality(found: Quality) -> dict[str, Any]:
    rows = []
    for arm, label in (("baseline", "baseline again (floor)"), ("candidate", "candidate")):
        kl, agreement = found.kl.get(arm), found.agreement.get(arm)
        if kl is None or agreement is None or not len(kl):
            continue
        rows.append(
            {
                "arm": label,
                "n": f"{len(kl):,}",
                "mean": words.number(float(kl.mean())),
                "median": words.number(float(np.median(kl))),
                "worst": words.number(float(kl.max())),
                "agreement": words.percent(float(agreement.mean())),
            }
        )
    examples = [
        {
            "stage": example.stage + 1,
            "pair": f"{example.pair_id & 0xFFFFFFFF}",
            "baseline": _shortened(example.baseline),
            "candidate": _shortened(example.candidate),
            "kl": "" if math.isnan(example.kl) else words.number(example.kl),
            "agreement": "" if math.isnan(example.agreement) else words.percent(example.agreement),
        }
        for example in found.examples
    ]
    return {
        "there": bool(found), "rows": rows, "examples": examples,
        "pairs": found.pairs, "differing": found.differing,
        "share": words.percent(found.differing / found.pairs) if found.pairs else words.NONE,
    }  # fmt: skip


def _bounded(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """A scenario may carry all its prompts; run.json has the whole of it."""
    short = [(key, text if len(text) <= _LONGEST_FACT else text[:_LONGEST_FACT] + " …") for key, text in rows]
    left = len(short) - _MOST_FACTS
    return short[:_MOST_FACTS] + ([("…", f"{left} more in run.json")] if left > 0 else [])


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " … (cut)"


def _stages(stages: Sequence[StageRecord], verdict: Verdict, data: Requests) -> list[dict[str, Any]]:
    decided = {stage.stage: stage for stage in verdict.stages}
    found = []
    for stage in stages:
        plan = stage.plan
        here = data.stage == plan.index
        ran = "not finished" if stage.end_ns is None else words.seconds((stage.end_ns - stage.begin_ns) * 1e-9)
        found.append(
            {
                "name": words.stage_name(plan),
                "load": words.stage_load(plan),
                "planned": words.span(plan.duration_s) + (" at most" if plan.purpose == "deploy" else ""),
                "ran": ran,
                "begin": words.clock(stage.begin_ns * 1e-9),
                "requests": {arm: f"{int((here & data.of(arm)).sum()):,}" for arm in facts.ARMS[:2]},
                "verdict": decided.get(plan.index),
            }
        )
    return found
