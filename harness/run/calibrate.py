"""A/A on the user's rig, or made of a recording: how often does the judge err here?"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from harness import __version__
from harness.errors import UsageError
from harness.judge import Evidence, judge
from harness.judge.planning.calibration import RESAMPLED, RUNS, Repetition, document, recorded, repeat, resampled
from harness.recording import Recording, read_meta
from harness.run.calibrations import name_of
from harness.run.execute import execute
from harness.run.setting import describe
from harness.run.stage import Observe
from harness.scenario import Scenario, against_itself
from harness.telemetry import hardware

Say = Callable[[str], None]
LEAST_LOOKS = 12


def calibrate(
    scenario: Scenario, folder: Path, runs: int, looks_s: float, observe: Observe, say: Say
) -> dict[str, Any]:
    """`runs` A/A of a scenario, each with a seed of its own, in `folder`; those that are in it already count.

    Raises UsageError where `folder` holds something else, and what cut a run short: the same call then goes on.
    """
    wanted = against_itself(scenario)
    done = _done(folder, wanted)
    for seed in range(wanted.seed, wanted.seed + runs):
        if seed in done:
            continue
        say(f"A/A run {len(done) + 1} of {runs}")
        result = execute(wanted.model_copy(update={"seed": seed}), folder, observe, say)
        if result.error is not None:
            say(f"{len(done)} of {runs} runs are in {folder}: the same command goes on from there")
            raise result.error
        done[seed] = result.folder
    found, gates = [], wanted.gates
    for seed, path in sorted(done.items()):
        say(f"judging {path.name}")
        evidence = replace(Evidence.of(Recording.open(path)), calibrated=None)
        gates = gates or evidence.rules
        found.append(repeat(evidence, looks_s, np.random.default_rng(seed), judge(evidence).verdict))
    return _published(document(found, gates, RUNS, looks_s), describe(scenario))


def calibrate_recorded(
    path: Path, times: int, looks_s: float | None, seed: int, say: Say, gates: tuple[Any, ...] = ()
) -> dict[str, Any]:
    """`times` A/A made of a recorded baseline. `looks_s` None: a dozen looks at each, every 10 s at most.

    Raises UsageError where it holds too few requests.
    """
    recording = Recording.open(path)
    evidence = Evidence.of(recording)
    baseline = recorded(replace(evidence, gates=gates) if gates else evidence)
    due = baseline.samples.due_ns
    step_s = looks_s or max(10.0, (int(due[-1]) - int(due[0])) / 2e9 / LEAST_LOOKS)
    found = []
    for one in _in_parallel(baseline, times, step_s, seed):
        found.append(one)
        if len(found) % 10 == 0 or len(found) == times:
            say(f"{len(found)} of {times} judged")
    rules = tuple(gate for gate in baseline.rules if gate.margin is not None)
    meta = recording.meta or {"scenario": {"name": path.stem}}
    return _published(document(found, rules, RESAMPLED, step_s), meta)


def _in_parallel(baseline: Evidence, times: int, step_s: float, seed: int) -> Iterator[Repetition]:
    """In order, on all cores; in this process where there is one, or little to do."""
    workers = min(os.cpu_count() or 1, max(times // 8, 1))
    tasks = [(baseline, number, step_s, seed) for number in range(times)]
    if workers == 1:
        yield from map(_one, tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_hold, initargs=(baseline,)) as pool:
        yield from pool.map(_one, [(None, *task[1:]) for task in tasks])


_held: list[Evidence] = []
"""Of a worker process: sent once, not with each task."""


def _hold(baseline: Evidence) -> None:
    _held.append(baseline)


def _one(task: tuple[Evidence | None, int, float, int]) -> Repetition:
    baseline, number, step_s, seed = task
    return resampled(baseline or _held[0], number, step_s, seed)


def _done(folder: Path, wanted: Scenario) -> dict[int, Path]:
    """Finished runs by seed. Raises UsageError where one is of another scenario."""
    found: dict[int, Path] = {}
    mine = _comparable(describe(wanted))
    for path in sorted(folder.glob("*/run.json")) if folder.is_dir() else []:
        meta = read_meta(path.parent)
        if _comparable(meta) != mine:
            raise UsageError(f"{path.parent}: is of another scenario or machine: name another folder (--dir)")
        if meta.get("finished") and not meta.get("outcome", {}).get("error"):
            found[int(meta["seed"])] = path.parent
    return found


def _comparable(meta: Mapping[str, Any]) -> Any:
    """What has to be the same for two runs to be repetitions of each other."""
    scenario = {key: value for key, value in meta.get("scenario", {}).items() if key != "seed"}
    host = meta.get("host", {})
    return json.loads(json.dumps([scenario, meta.get("prompts"), host.get("cpu"), host.get("gpus")]))


def _published(rates: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    scenario = meta.get("scenario", {})
    return {
        **rates,
        "made_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "scenario": scenario.get("name", ""),
        "of": name_of(meta),
        # Of a recording: the machine that it was made on.
        "host": meta.get("host") or hardware(),
        "software": {"triton-canary": __version__},
    }
