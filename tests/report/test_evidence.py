"""The evidence over time on the page: where each rule stood, where it was decided, in figures and in sentences."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from harness.report import evidence, figures
from harness.report.page import page
from harness.types import Finding, Look, Outcome, StageVerdict
from tests.report import factory

NAMES = {0: "1: paired"}
WIDTHS = (0.30, 0.12, 0.05, 0.02)


def looks(
    outcomes: tuple[Outcome, ...] = ("no data", "inconclusive", "fail", "fail"), *, live: bool = False, **more: object
) -> tuple[Look, ...]:
    """Of tpot.p50, 20 s apart in a stage that begins after 8 s; the first look knows nothing yet."""
    made = []
    for number, (outcome, width) in enumerate(zip(outcomes, WIDTHS, strict=True)):
        found = factory.finding("tpot.p50", outcome, 1.2, **{"interval": (1.2 - width, 1.2 + width), **more})
        if outcome == "no data":
            found = replace(found, effect=None, interval=None)
        last = number == len(outcomes) - 1
        verdict = StageVerdict(0, "rollback" if outcome == "fail" else "inconclusive", found.reason, (found,))
        made.append(Look(20.0 * (number + 1), 90.0, verdict, last and live, last and live, last and not live, 8.0))
    return tuple(made)


def only(made: tuple[Look, ...]) -> evidence.Track:
    (track,) = evidence.tracks(made)
    return track


def test_a_track_has_what_every_look_said() -> None:
    track = only(looks())
    assert track.at.tolist() == [28.0, 48.0, 68.0, 88.0]
    assert np.isnan(track.effect[0])
    assert np.isnan(track.low[0])
    assert track.high[1:].tolist() == pytest.approx([1.32, 1.25, 1.22])
    assert track.outcomes == ("no data", "inconclusive", "fail", "fail")
    assert track.end == looks()[-1].verdict.findings[0]


@pytest.mark.parametrize(
    ("outcomes", "decided", "said"),
    [
        (("no data", "inconclusive", "fail", "fail"), 2, "tpot.p50: fail from 60.0 s on; at the end +20 % "),
        (("no data", "inconclusive", "inconclusive", "pass"), 3, "tpot.p50: pass at the end, after 80.0 s: +20 % "),
        (("no data", "pass", "pass", "pass"), 1, "tpot.p50: pass from 40.0 s on; at the end +20 % "),
        (
            ("no data", "inconclusive", "inconclusive", "inconclusive"),
            None,
            "tpot.p50: inconclusive at the end, +20 % ",
        ),
        (("no data", "fail", "inconclusive", "inconclusive"), None, "; a look after 40.0 s would have failed it"),
    ],
)
def test_when_it_was_decided(outcomes: tuple[Outcome, ...], decided: int | None, said: str) -> None:
    track = only(looks(outcomes))
    assert track.decided == decided
    assert said in evidence.sentence(track, NAMES, many=False)
    assert evidence.sentence(track, NAMES, many=True).startswith("tpot.p50, stage 1: paired: ")


def test_a_run_that_stopped_decided_where_it_stopped() -> None:
    assert only(looks(live=True)).decided == 3


def test_a_watched_stage_that_passes_decides_nothing() -> None:
    assert only(looks(("pass", "pass", "pass", "pass"), kind="watch")).decided is None


def test_checks_of_the_measurement_and_information_have_no_track() -> None:
    stage = looks()[-1].verdict
    more = (
        Finding("validity.lag", "fail", "x", kind="validity", effect=1.0, margin=1.0),
        Finding("osl", "pass", "for information: x", effect=1.0),
        Finding("ttft.p50", "no data", "x", margin=1.1),
    )
    end = replace(looks()[-1], verdict=replace(stage, findings=(*stage.findings, *more)))
    assert [track.end.metric for track in evidence.tracks((*looks()[:-1], end))] == ["tpot.p50"]


def test_the_figure_shows_the_margin_and_where_it_was_decided() -> None:
    time = figures.TimeAxis(0.0, 100.0, ())
    drawn = figures.evidence_over_time(evidence.tracks(looks()), time, "tpot")
    assert "fail, after 60.0 s" in drawn
    assert ">tpot.p50: candidate against baseline</text>" in drawn  # no longer: more would run out of the figure
    assert re.search(r"\+10 %</text>", drawn)  # the margin is within the panel
    assert "fail, after" not in figures.evidence_over_time(
        evidence.tracks(looks(("no data", "inconclusive", "inconclusive", "inconclusive"))), time, "tpot"
    )


def test_one_wild_look_does_not_flatten_the_others() -> None:
    wild = looks()
    first = replace(wild[1].verdict.findings[0], effect=40.0, interval=(0.01, 500.0))
    made = (wild[0], replace(wild[1], verdict=replace(wild[1].verdict, findings=(first,))), *wild[2:])
    drawn = figures.evidence_over_time(evidence.tracks(made), figures.TimeAxis(0.0, 100.0, ()), "tpot")
    ticks = [int(tick) for tick in re.findall(r">([+-]\d+) %</text>", drawn)]
    assert max(ticks) < 120


def test_open_ends_and_a_single_look() -> None:
    opened = looks(interval=(None, 1.5))
    assert "<svg" in figures.evidence_over_time(evidence.tracks(opened), figures.TimeAxis(0.0, 100.0, ()), "tpot")
    assert figures.evidence_over_time(evidence.tracks(looks()[-1:]), figures.TimeAxis(0.0, 100.0, ()), "tpot") == ""


def test_on_the_page_it_stands_with_its_metric_and_without_looks_the_page_says_so() -> None:
    verdict = factory.rollback()
    recording = factory.recording(plans=factory.PLANS[:1])
    text = page(recording, verdict, looks())
    block = text.split("<h3>Time per output token")[1].split("<h3>")[0]
    assert 'aria-label="Evidence over time: effect and interval of tpot.p50 against the margin"' in block
    assert "<li>tpot.p50: fail from 60.0 s on; at the end +20 %" in block
    assert "The evidence over time is left out" not in text
    assert "The evidence over time is left out" in page(factory.nothing(), verdict)
    assert page(recording, verdict, looks()) == text


def test_where_one_look_is_all_there_is_the_page_promises_no_more() -> None:
    text = page(factory.nothing(), factory.rollback(), looks()[-1:])
    assert "the evidence of each rule over time" not in text
    assert "The evidence over time is left out" not in text
