"""The facts of an operation as figures, where a table of them is hard to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from harness.recording import quantile
from harness.report import words
from harness.report.figures import operations as draw

Facts = Mapping[str, Any]
_WINDOWS = "Phases are shaded in turn and numbered in the order of the table. Each point is a block of the load."
_CONTEXT = (
    "Marks: peaks that were measured. Lines: the fit, above which 99 % of what is to come will not lie. Red: the "
    "limit; upright on it: up to where the fit keeps it. Dotted: the length that is asked for."
)
_TRIALS = "Each mark is a trial, with the interval of its share as it was judged. Red: what is allowed."


class Drawn(NamedTuple):
    svg: Markup
    caption: str


def operation_figures(observations: Facts) -> list[Drawn]:
    """[] of a kind whose tables say it all, and where nothing was measured."""
    make: dict[str, Callable[[Facts], list[Drawn]]] = {
        "multi-model-server": _windows,
        "night-batch": _windows,
        "find-max-load": _trials,
        "long-context": _contexts,
    }
    drawing = make.get(str(observations["kind"]))
    return [one for one in drawing(observations) if one.svg] if drawing is not None else []


def _windows(observations: Facts) -> list[Drawn]:
    return [Drawn(Markup(draw.windows([_window(one) for one in observations.get("windows") or []])), _WINDOWS)]


def _window(window: Facts) -> draw.Window:
    blocks = window["blocks"]
    ends = window["begin_s"] + np.cumsum([0.0, *(block["seconds"] for block in blocks)])
    times = [block["times"].get("response_time") for block in blocks]
    return draw.Window(
        load=str(window["load"]),
        phase=int(window["stage"]),
        begin=float(ends[0]),
        end=float(ends[-1]),
        at=(ends[:-1] + ends[1:]) / 2,
        done=np.asarray([block["done"] / block["seconds"] if block["seconds"] else np.nan for block in blocks]),
        p95=np.asarray([float(quantile(time[0], time[1], 0.95)) if time and time[0] else np.nan for time in times]),
    )


def _contexts(observations: Facts) -> list[Drawn]:
    """Of each arm that was asked and of which the judge reckoned a fit."""
    found = []
    for name in ("candidate", "baseline"):
        arm, derived = ((observations.get(key) or {}).get(name) for key in ("arms", "derived"))
        if not arm or not derived:
            continue
        capacity = {device: size for device, size in (arm.get("watched") or {}).get("capacity", {}).items() if size}
        batches = [_batch(number, arm, derived, capacity) for number in sorted({p["batch"] for p in arm["points"]})]
        goal = float((observations.get("goal") or {}).get("context") or 0.0)
        svg = draw.context_memory(batches, float(derived["limit"]), goal, f"context-{name}")
        found.append(Drawn(Markup(svg), f"{name}, {arm['model']} version {arm['version']}. {_CONTEXT}"))
    return found


def _batch(number: int, arm: Facts, derived: Facts, capacity: Mapping[str, float]) -> draw.Batch:
    """Of several devices the fullest counts."""
    points = [
        (point["tokens"], max(shares), point["outcome"] == "ok")
        for point in arm["points"]
        if point["batch"] == number
        and (shares := [used / capacity[one] for one, used in point["peak"].items() if one in capacity])
    ]
    told = sorted(
        (cell["context"], cell["foretold"])
        for cell in derived["cells"]
        if cell["batch"] == number and cell["foretold"] is not None
    )
    safe = next((edge["safe"] for edge in derived["edges"] if edge["batch"] == number), None)
    return draw.Batch(
        batch=number,
        tokens=np.asarray([point[0] for point in points], np.float64),
        share=np.asarray([point[1] for point in points], np.float64),
        fits=[point[2] for point in points],
        told_tokens=np.asarray([point[0] for point in told], np.float64),
        told=np.asarray([point[1] for point in told], np.float64),
        safe=safe,
    )


def _trials(observations: Facts) -> list[Drawn]:
    """A figure an objective."""
    unit = "requests a second" if observations.get("open_loop") else "requests in flight"
    found = []
    for number, objective in enumerate(observations.get("objectives") or []):
        tried = []
        for trial in observations.get("trials") or []:
            due = sum(block["due"] for block in trial["blocks"])
            low, high = trial["found"]["bounds"][number]
            if due and low is not None and high is not None:
                beyond = sum(block["beyond"][number] for block in trial["blocks"])
                tried.append(draw.Trial(float(trial["level"]), beyond / due, low, high, trial["found"]["outcome"]))
        if len({trial.level for trial in tried}) < 2:  # a table of one load says it all
            continue
        svg = draw.trials(tried, float(objective["allowed"]), objective["words"], unit, f"trials-{number}")
        allowed = words.percent(objective["allowed"])
        found.append(Drawn(Markup(svg), f"Share of requests beyond {objective['words']}; {allowed} may. {_TRIALS}"))
    return found
