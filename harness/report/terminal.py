"""What a person sees in a terminal: the live view of a run, its end, and a plain line where there is none.

Signs and words carry the meaning; colour only repeats it (NO_COLOR and monochrome terminals lose nothing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from harness.report import measurement, steps, words
from harness.report.about import arm_titles, reasons, summary_line, title
from harness.types import ArmStatus, Decision, Finding, RunStatus, StageVerdict, Verdict

COLOR = {
    "promote": "green",
    "pass": "green",
    "rollback": "red",
    "fail": "red",
    "inconclusive": "yellow",
    "no data": "yellow",
}
ARM_COLOR = {"baseline": "blue", "candidate": "yellow", "stable": "cyan"}
_WIDEST = 100
_STAGE_LINES = 7  # more stages than this scroll by, the current one in view
_LEANS: dict[Decision, str] = {
    "promote": "going well so far",
    "rollback": "leans to rollback",
    "inconclusive": "too early to say",
}
_NONE = ArmStatus()


def live(status: RunStatus, width: int) -> RenderableType:
    """The view of a run that goes on: at most 22 lines, and at most `width` (and 100) columns."""
    wide = max(40, min(width, _WIDEST))
    head = Table.grid(expand=True)
    head.add_column(no_wrap=True, overflow="ellipsis")
    head.add_column(justify="right", no_wrap=True)
    times = f"{words.clock(status.elapsed_s)} gone, about {words.clock(status.left_s)} left"
    head.add_row(Text(status.scenario, style="bold"), Text(times))
    parts: list[RenderableType] = [head, _cut(status.step), Text()]
    parts += [_stages(status, wide), Text(), _split(status.candidate_share, wide), Text()]
    parts += [_arms(status.arms), Text(), *_leaning(status)]
    return Constrain(Group(*parts), wide)


def lines(status: RunStatus) -> str:
    """One line, without markup or control characters, for logs."""
    place = status.step
    if status.stage is not None:
        number = f"stage {status.stage.index + 1}/{len(status.stages)} {words.stage_kind(status.stage)}"
        gone = f"{words.clock(status.stage_elapsed_s)}/{words.clock(status.stage.duration_s)}"
        place = f"{number} {gone}"
    parts = [f"{words.clock(status.elapsed_s)} {place}"]
    for arm, seen in status.arms.items():
        if seen.sent:
            fast = f", p50 {words.seconds(seen.response_p50)}" if seen.response_p50 is not None else ""
            parts.append(f"{arm} {seen.sent} sent, {seen.failed} failed{fast}")
    if status.leaning is not None:
        worst = [f for f in words.telling(status.leaning.findings) if f.outcome == "fail"][:1]
        parts.append(_LEANS[status.leaning.verdict] + "".join(f": {words.one_line(f.reason)}" for f in worst))
        parts += [planned] if (planned := _planned(status.leaning)) else []
    return words.one_line("; ".join([*parts, f"about {words.clock(status.left_s)} left"]))


def summary(verdict: Verdict, meta: Mapping[str, Any], folder: Path | None) -> RenderableType:
    """The end of a run: the verdict, its reasons, the findings that matter, and where the report lies."""
    color = COLOR[verdict.verdict]
    head = Text(f"{words.SIGN[verdict.verdict]} {verdict.verdict}", style=f"bold {color}")
    head.append(f"  {words.one_line(title(meta))}", style="bold not dim default")
    parts: list[RenderableType] = [
        Text(),
        head,
        Text(words.one_line(verdict.reason) or summary_line(verdict)),
    ]
    parts += [Text(f"- {words.one_line(reason)}") for reason in reasons(verdict, most=4)]
    if verdict.needs:
        parts.append(Text(f"What it would take: {words.one_line(verdict.needs)}"))
    names = arm_titles(meta)
    if names:
        parts.append(Text("; ".join(f"{arm}: {words.one_line(text)}" for arm, text in names.items()), style="dim"))
    shown = _mattering(verdict)
    if shown:
        parts += [Text(), findings_table(shown), Text()]
    if told := steps.line(verdict):
        parts.append(Text(f"steps: {told}"))
    if told := measurement.line(verdict):
        parts.append(Text(f"measurement: {told}", style="dim"))
    if (told := measurement.calibrated(verdict)).startswith("Calibrated"):  # else the report says how to
        parts.append(Text(words.one_line(told), style="dim"))
    if told := words.origin(verdict):
        parts.append(Text(told, style="dim"))
    if folder is not None:
        parts.append(Text(f"report: {folder / 'report.html'}", overflow="fold"))
    return Group(*parts)


def findings_table(findings: Sequence[Finding]) -> Table:
    """Findings in figures, one a row, without their reasons; the stage is named where there are several."""
    many = len({finding.stage for finding in findings}) > 1
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    if many:
        table.add_column("stage", justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for name in ("baseline", "candidate", "effect", "margin"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("interval", min_width=9)
    for finding in findings:
        cells = [Text(str(finding.stage + 1))] if many else []
        cells += [
            outcome_text(finding.outcome),
            Text(finding.metric),
            Text(words.measured(finding.metric, finding.baseline)),
            Text(words.measured(finding.metric, finding.candidate)),
            Text(words.effect(finding).removesuffix(" nats")),
            Text(words.margin(finding).removesuffix(" nats")),
            Text(words.interval(finding).removesuffix(" nats")),
        ]
        table.add_row(*cells)
    return table


def _stages(status: RunStatus, width: int) -> RenderableType:
    verdicts = {verdict.stage: verdict.verdict for verdict in status.done}
    current = status.stage.index if status.stage is not None else -1
    reached = current if current >= 0 else len(status.done)
    begin = max(0, min(reached - _STAGE_LINES // 2, len(status.stages) - _STAGE_LINES))
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    for plan in status.stages[begin : begin + _STAGE_LINES]:
        sign, progress = Text(" "), Text(words.span(plan.duration_s), style="dim")
        if plan.index == current:
            sign = Text("▶", style="bold")
            bar = _bar(status.stage_elapsed_s / max(plan.duration_s, 1e-9), max(6, width // 5), "bold")
            progress = bar.append(f" {status.stage_elapsed_s:.0f}/{plan.duration_s:g} s", style="not bold")
        elif plan.index in verdicts:
            word = verdicts[plan.index]
            sign, progress = Text(words.SIGN[word], style=COLOR[word]), Text(word, style=COLOR[word])
        style = "bold" if plan.index == current else "" if plan.index in verdicts else "dim"
        table.add_row(sign, Text(words.stage_name(plan), style=style), Text(words.stage_load(plan), "dim"), progress)
    return table


def _split(share: float, width: int) -> Text:
    """Who gets the traffic, as a bar of two textures."""
    left, right = f"baseline {words.percent(1 - share)} ", f" {words.percent(share)} candidate"
    room = max(4, width - len(left) - len(right))
    mine = round(share * room)
    mine = min(max(mine, 1), room - 1) if 0 < share < 1 else mine
    return Text.assemble(
        left, ("█" * (room - mine), ARM_COLOR["baseline"]), ("▒" * mine, ARM_COLOR["candidate"]), right
    )  # fmt: skip


def _arms(arms: Mapping[Any, ArmStatus]) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    for name in ("sent", "failed", "rate", "ttft p50", "tpot p50", "resp. p50", "resp. p90"):
        table.add_column(name, justify="right", no_wrap=True, min_width=8 if " " in name else 6)
    for arm in ("baseline", "candidate", *(name for name in arms if name not in ("baseline", "candidate"))):
        seen = arms.get(arm, _NONE)
        table.add_row(
            Text(arm, style=ARM_COLOR.get(arm, "")),
            str(seen.sent),
            Text(str(seen.failed), style="bold red" if seen.failed else ""),
            f"{words.number(seen.rate, 2)}/s",
            words.seconds(seen.ttft_p50),
            words.seconds(seen.tpot_p50),
            words.seconds(seen.response_p50),
            words.seconds(seen.response_p90),
        )
    return table


def _leaning(status: RunStatus) -> list[RenderableType]:
    """The judge's present view: a word and the two or three findings that say most; always four lines."""
    found: StageVerdict | None = status.leaning
    if found is None:
        return [Text("judge: nothing to judge yet", style="dim"), Text(), Text(), Text()]
    head = _cut_text(
        Text.assemble(
            "judge: ", (f"{words.SIGN[found.verdict]} {_LEANS[found.verdict]}", f"bold {COLOR[found.verdict]}"),
            (f"  {_planned(found)}", "dim"),
        )
    )  # fmt: skip
    rows = [f for f in words.telling(found.findings) if f.kind != "validity" or f.outcome != "pass"][:3]
    told: list[RenderableType] = [_cut_text(Text.assemble("  ", outcome_text(f.outcome), "  ", _told(f))) for f in rows]
    return [head, *told, *([Text()] * (3 - len(told)))]


def _planned(found: StageVerdict) -> str:
    """Of the gate that needs most time: how much more, by the noise so far; "" where all have had enough."""
    plans = [one for one in found.findings if one.metric.startswith("plan.") and one.needs_s]
    longest = max(plans, key=lambda one: one.needs_s or 0.0, default=None)
    if longest is None or longest.needs_s is None:
        return ""
    return f"{longest.metric.removeprefix('plan.')} needs about {words.clock(longest.needs_s)} more"


def _told(finding: Finding) -> str:
    """`tpot.p50 +30.2 % (+28.2 to +32.2 %), margin +10 %`, or the reason where there are no figures."""
    if words.effect(finding) == words.NONE:
        return f"{finding.metric}: {words.one_line(finding.reason)}"
    between = words.interval(finding)
    between = f" ({between})" if between != words.NONE else ""
    edge = words.margin(finding)
    return f"{finding.metric} {words.effect(finding)}{between}" + (f", margin {edge}" if edge != words.NONE else "")


def _mattering(verdict: Verdict, most: int = 8) -> list[Finding]:
    """What failed or is open, in every stage; of what passed only the comparisons that have a margin."""
    rows = [
        finding
        for finding in words.telling(verdict.findings)
        if finding.outcome == "fail"
        or (finding.outcome != "pass" and (verdict.verdict != "promote" or finding.kind == "comparison"))
        or (finding.outcome == "pass" and finding.kind == "comparison" and finding.margin is not None)
    ]
    return rows[:most]


def _bar(share: float, width: int, style: str) -> Text:
    full = round(min(max(share, 0.0), 1.0) * width)
    return Text.assemble(("━" * full, style), ("─" * (width - full), "dim"))


def outcome_text(outcome: str) -> Text:
    """Sign, word and colour of an outcome."""
    return Text(f"{words.SIGN[outcome]} {outcome}", style=COLOR[outcome])


def _cut(text: str) -> Text:
    return _cut_text(Text(words.one_line(text)))


def _cut_text(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
