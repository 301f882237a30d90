"""What a page shows of each judged quantity beside its measurements: effects by stage, and the evidence over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report import evidence, figures, words
from harness.types import Finding, Look, Verdict


@dataclass(frozen=True)
class Block:
    """Of one quantity (`ttft` of ttft.p50 and ttft.p99): figures, "" where there is nothing to draw, and the evidence
    over time in sentences.
    """

    family: str
    effects: Markup
    over_time: Markup
    said: tuple[str, ...]


def blocks(
    verdict: Verdict, looks: Sequence[Look], time: figures.TimeAxis, names: Mapping[int, str]
) -> dict[str, Block]:
    """By quantity: what failed or is open first, as the findings stand. Only what has an effect and a margin; of what
    protects the traffic only what failed.
    """
    found: dict[str, list[Finding]] = {}
    for finding in words.telling(verdict.findings):
        quiet = finding.metric in words.OF_TRAFFIC and finding.outcome == "pass"
        if finding.kind != "validity" and finding.effect is not None and finding.margin is not None and not quiet:
            found.setdefault(finding.metric.partition(".")[0], []).append(finding)
    tracks = evidence.families(evidence.tracks(looks))
    many = len(verdict.stages) > 1

    def name(finding: Finding) -> str:
        return f"{finding.metric} · {finding.stage + 1}" if many else finding.metric

    return {
        family: Block(
            family,
            Markup(figures.forest(sorted(of, key=lambda one: one.stage), name, f"effects-{family}")),
            Markup(figures.evidence_over_time(tracks.get(family, ()), time, family)),
            tuple(evidence.sentence(track, names, many=many) for track in tracks.get(family, ()) if track.over_time),
        )
        for family, of in found.items()
    }
