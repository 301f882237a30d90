"""metrics.txt: the verdict's figures in OpenMetrics text, for GitLab's metrics report and for Prometheus.

Guarantee: what is written here three readers take: OpenMetrics' own (UNIT lines, `# EOF`, no series twice), the text
format of Prometheus (there are gauges only), and GitLab, which splits each line at blanks as a shell would, has a `#`
begin a comment wherever it stands, and takes the second word for the value.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.report import words
from harness.report.about import title
from harness.types import Decision, Finding, Gauge, Outcome, Verdict

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PREFIX = "triton_canary_"
CODES: dict[Outcome, int] = {"pass": 0, "fail": 1, "inconclusive": 3, "no data": 4}
"""The numbers of the exit codes that mean the same."""
DECISIONS: tuple[Decision, ...] = ("promote", "rollback", "inconclusive")
UNITS = {
    **dict.fromkeys(("ratio", "rate", "pp"), "ratio"), **dict.fromkeys(("1", ""), ""),
    "s": "seconds", "J": "joules", "1/s": "per_second",
}  # fmt: skip
"""Of a finding's unit; one that is not here keeps its name."""
DIGITS = 9  # as in verdict.json

_HELP = {
    "verdict": "1 for the verdict of the run, 0 for the others",
    "outcome": "of a finding: 0 pass, 1 fail, 3 inconclusive, 4 no data",
    "measured": "what was measured of an arm",
    "relative_effect": "candidate over baseline: 1 is equal",
    "relative_effect_lower": "lower bound of the relative effect, one-sided",
    "relative_effect_upper": "upper bound of the relative effect, one-sided",
    "relative_margin": "what the relative effect may not exceed; below 1: what it may not fall below",
    "effect": "candidate against baseline, in the unit of the metric",
    "effect_lower": "lower bound of the effect, one-sided",
    "effect_upper": "upper bound of the effect, one-sided",
    "margin": "what the effect may not exceed",
}


def gauges(meta: Mapping[str, Any], verdict: Verdict) -> tuple[Gauge, ...]:
    """One gauge a quantity and unit, in the order of `_HELP`; what is not known has no value.

    Labels: `scenario`, and of findings `metric`, `stage` (from 1), `kind`, and the `arm` of what was measured.
    """
    found: dict[tuple[str, str], list[tuple[Mapping[str, str], float]]] = {}
    for name, unit, labels, value in _values(title(meta), verdict):
        if value is not None and math.isfinite(value):
            found.setdefault((name, unit), []).append((labels, value))
    order = list(_HELP)
    return tuple(
        Gauge(PREFIX + name + (unit and f"_{unit}"), _HELP[name], unit, tuple(points))
        for (name, unit), points in sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
    )


def openmetrics(found: tuple[Gauge, ...]) -> str:
    """The text; ends with `# EOF` and a newline."""
    lines = []
    for gauge in found:
        lines.append(f"# TYPE {gauge.name} gauge")
        lines += [f"# UNIT {gauge.name} {gauge.unit}"] if gauge.unit else []
        lines.append(f"# HELP {gauge.name} {gauge.help}")
        for labels, value in gauge.points:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(f"{gauge.name}{{{inside}}} {value:.{DIGITS}g}")
    return "\n".join([*lines, "# EOF"]) + "\n"


def _values(scenario: str, verdict: Verdict) -> Iterator[tuple[str, str, dict[str, str], float | None]]:
    """Name, unit, labels and value of everything that there may be to tell."""
    for decision in DECISIONS:
        yield "verdict", "", {"scenario": scenario, "verdict": decision}, float(verdict.verdict == decision)
    seen: Counter[tuple[str, int, str]] = Counter()
    for stage in verdict.stages:
        for finding in stage.findings:
            key = (finding.metric, stage.stage, finding.kind)
            seen[key] += 1
            metric = finding.metric if seen[key] == 1 else f"{finding.metric} ({seen[key]})"
            labels = {"scenario": scenario, "metric": metric, "stage": str(stage.stage + 1), "kind": finding.kind}
            yield "outcome", "", labels, CODES[finding.outcome]
            yield from _figures(finding, labels)


def _figures(finding: Finding, labels: dict[str, str]) -> Iterator[tuple[str, str, dict[str, str], float | None]]:
    own = finding.unit if finding.unit not in ("ratio", "pp") else ""
    for arm, value in (("baseline", finding.baseline), ("candidate", finding.candidate)):
        yield "measured", _word(words.unit_of(finding.metric) or own), {**labels, "arm": arm}, value
    unit = _word(finding.unit)
    scale = "relative_" if finding.unit == "ratio" else ""
    low, high = finding.interval or (None, None)
    yield f"{scale}effect", unit, labels, finding.effect
    yield f"{scale}effect_lower", unit, labels, low
    yield f"{scale}effect_upper", unit, labels, high
    yield f"{scale}margin", unit, labels, finding.margin


def _word(unit: str) -> str:
    """As it may stand at the end of a name."""
    return UNITS.get(unit, re.sub(r"[^a-zA-Z0-9]+", "_", unit).strip("_"))


def _escaped(text: str) -> str:
    text = words.one_line(text).replace("#", "_")
    return text.replace("\\", r"\\").replace('"', r"\"")
