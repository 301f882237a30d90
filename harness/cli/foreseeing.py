"""What the gates of a scenario could show, for `check`: by the noise of an earlier recording, or of a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UsageError
from harness.judge import Evidence, judge_stage
from harness.judge.planning.calibration import noise_in
from harness.judge.planning.foresight import noises, prospect
from harness.judge.planning.planner import ASSUMED_BLOCK_S, Noise
from harness.recording import Recording
from harness.run.calibrations import last_calibration, name_of
from harness.scenario import Description, Scenario
from harness.types import Gate


@dataclass(frozen=True, slots=True)
class Known:
    """`noise` by metric, and where it comes from, in words; "" where nothing was measured."""

    noise: Mapping[str, Noise]
    source: str = ""


def known(wanted: Scenario, recording: Path | None) -> Known:
    """Of `recording`, else of the last calibration of this target and model. Raises UsageError for a recording of which
    nothing can be learned.
    """
    if recording is not None:
        return Known(_recorded(recording, wanted.gates), f"of {recording}")
    about = {"scenario": wanted.model_dump(mode="json")}
    calibration = last_calibration(about)
    noise = noise_in(calibration) if calibration else {}
    return Known(noise, f"of the calibration of {name_of(about)}") if noise else Known({})


def _recorded(path: Path, gates: tuple[Gate, ...]) -> dict[str, Noise]:
    """By metric, of the longest stage that compared it."""
    evidence = Evidence.of(Recording.open(path))
    evidence = replace(evidence, gates=gates) if gates else evidence
    found: dict[str, Noise] = {}
    for record in evidence.stages:
        end_ns = record.end_ns if record.end_ns is not None else record.begin_ns
        seconds = (end_ns - record.begin_ns) / 1e9
        if record.plan.purpose != "compare" or seconds <= 0:
            continue
        for metric, noise in noises(judge_stage(evidence, record.plan.index).findings, seconds).items():
            if metric not in found or found[metric].seconds < noise.seconds:
                found[metric] = noise
    if not found:
        raise UsageError(f"{path}: no stage of it compared these gates at equal load, so its noise is not known")
    return found


def lines(facts: Description, known: Known) -> tuple[list[tuple[str, str]], str]:
    """A gate and what it can show, for each of which something can be said; and what that rests on."""
    rows, guessed = [], False
    for one in facts.gates:
        if one.stage is None:
            continue
        parts = [part for part in (one.stage.requests_baseline, one.stage.requests_candidate) if part is not None]
        requests = min(parts, default=None)
        noise = known.noise.get(one.gate.metric)
        text, seen = prospect(one.gate, one.stage.plan, requests, len(facts.gates), noise)
        if text:
            assumed = seen is not None and noise is None
            guessed |= assumed
            rows.append((one.gate.metric, f"assumed: {text}" if assumed and known.source else text))
    return rows, _rests_on(known, guessed)


def _rests_on(known: Known, guessed: bool) -> str:
    assumption = (
        f"assumed, not measured: equal builds that differ from one {ASSUMED_BLOCK_S:g} s to the next by 13 % in the "
        "median and 26 % in p99; --from DIR takes the noise of an earlier run"
    )
    if known.source:
        return f"by the noise {known.source}" + (f"; {assumption}" if guessed else "")
    return assumption if guessed else ""
