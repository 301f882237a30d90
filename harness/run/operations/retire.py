"""retire-model: nobody asks it, it leaves, its directory leaves; with requests to what stays during all of it."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.errors import UnsafeChange, UsageError
from harness.run.journal import FILE
from harness.run.models import retire
from harness.run.operations.course import Course, Place
from harness.run.operations.steady import Steady
from harness.scenario import RetireModel

ARCHIVE = "archive"


def observe(course: Course) -> None:
    """Watch, retire, look again. Requests that still arrive are an answer, and no failure: nothing is changed then."""
    scenario = course.scenario
    assert isinstance(scenario, RetireModel)
    course.note(model=scenario.model, version=scenario.version, then=scenario.then, refused="")
    place = course.open_place(
        scenario.target, {scenario.model: {scenario.version: "fp16", scenario.version + 1: "same"}}
    )
    staying = _staying(place, scenario)
    course.note(staying=staying)
    # The threads end before the connections do, and before an embedded server does.
    with ExitStack() as threads:
        if scenario.stray is not None:
            _send(place, scenario, scenario.version, scenario.stray, threads)
        steady = _send(place, scenario, staying, scenario.steady, threads) if scenario.steady else None
        course.note(before=_look(place, scenario), counters=None, steady=None)
        counted = place.counts(scenario.model, staying)
        _retire(course, place, scenario)
        course.note(after=_look(place, scenario))
        if steady is not None:
            course.note(steady=steady.facts())
        else:
            course.note(counters={"before": counted, "after": place.counts(scenario.model, staying)})


def _retire(course: Course, place: Place, scenario: RetireModel) -> None:
    """Also notes what arrived at the version by the counters, and what the journal says of the steps."""
    model, version = scenario.model, scenario.version
    archive = None
    if scenario.then == "archive":
        archive = Path(scenario.archive) if scenario.archive else course.folder.path / ARCHIVE
    known = len(_journal(place))
    counted, began = sum(place.counts(model, version).values()), time.monotonic()
    try:
        with course.journal.action("retire", f"{place.control.url}/{model}", wanted=version):
            done = retire(place.site, model, version, window_s=scenario.window_s, then=scenario.then, archive=archive)
    except UnsafeChange as error:
        requests, window_s = sum(place.counts(model, version).values()) - counted, time.monotonic() - began
        if requests <= 0:
            raise  # refused for another reason than requests
        course.note(refused=str(error), arrivals={"requests": requests, "window_s": window_s})
        return
    if done.watched:
        requests = sum(one.requests for one in done.watched)
        course.note(arrivals={"requests": requests, "window_s": min(one.window_s for one in done.watched)})
    course.note(
        done=list(done.done),
        archived=scenario.then == "archive" and done.place is not None and done.place.is_dir(),
        journal=_journal(place)[known:],
    )


def _journal(place: Place) -> list[dict[str, str]]:
    """Its lines in the order in which they were written."""
    path = place.site.journal.folder / FILE
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    whole = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return [{key: line[key] for key in ("t", "action", "target", "state")} for line in whole]


def _look(place: Place, scenario: RetireModel) -> dict[str, Any]:
    """What stays must be READY on every server, and what goes on none."""
    others = [version for version in place.ready(scenario.model) if version != scenario.version]
    going = [scenario.version] if scenario.version in place.somewhere(scenario.model) else []
    directory = place.repository / scenario.model / str(scenario.version)
    return {"ready": sorted([*going, *others]), "directory": directory.is_dir()}


def _staying(place: Place, scenario: RetireModel) -> int:
    served = place.ready(scenario.model)
    others = [version for version in served if version != scenario.version]
    if not others:
        ready = ", ".join(map(str, served)) or "none"
        raise UsageError(
            f"{scenario.model}: no other version than {scenario.version} would serve on {place.control.url} "
            f"(READY: {ready}): load one first"
        )
    return max(others)


def _send(place: Place, scenario: RetireModel, version: int, rate: float, threads: ExitStack) -> Steady:
    sender = Steady(place.again(), scenario.model, version, rate)
    threads.callback(sender.stop)
    sender.start()
    return sender
