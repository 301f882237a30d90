"""An operation from scenario to verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from harness.errors import CanaryError, UsageError
from harness.run.execute import Result
from harness.run.folder import RunFolder
from harness.run.operations import demonstration
from harness.run.operations.ab import observe as observe_ab
from harness.run.operations.conclude import conclude_operation
from harness.run.operations.course import Course, Say
from harness.run.operations.find import observe as observe_find
from harness.run.operations.long_context import observe as observe_long
from harness.run.operations.night import observe as observe_night
from harness.run.operations.recover import undo_routes, undo_what_was_cut_off
from harness.run.operations.regions import observe as observe_regions
from harness.run.operations.retire import observe as observe_retire
from harness.run.operations.server import observe as observe_server
from harness.run.operations.sync import observe as observe_sync
from harness.run.setting import describe_operation
from harness.run.signals import interruptible
from harness.run.unfinished import alone
from harness.scenario import Operation

_OBSERVE: dict[str, Callable[[Course], None]] = {
    "repo-sync": observe_sync,
    "multi-region": observe_regions,
    "retire-model": observe_retire,
    "multi-model-server": observe_server,
    "night-batch": observe_night,
    "find-max-load": observe_find,
    "ab-test": observe_ab,
    "long-context": observe_long,
}


def operate(scenario: Operation, out: Path, say: Say, begun: Callable[[Path], None] = lambda _: None) -> Result:
    """Carry it out, observe into a new folder under `out`, judge, render. `begun` is told that folder.

    Raises UsageError where nothing could be started, and leaves no folder then; every other CanaryError is in the
    result, and the change that it cut off is undone.
    """
    if scenario.embedded and (problem := demonstration.missing(scenario)):
        raise UsageError(problem)
    folder = RunFolder.create(out.resolve(), scenario.name, describe_operation(scenario))
    folder.lock()
    begun(folder.path)
    error: CanaryError | None = None
    failures: list[str] = []
    facts = {"format": 1, "kind": scenario.kind, "finished": False}
    with interruptible() as signals:
        with ExitStack() as stack:
            course = Course(scenario, folder, say, stack, facts)
            try:
                course.journal.fence = stack.enter_context(alone(scenario, folder.path, say)).check
                _OBSERVE[scenario.kind](course)
                signals.ignore()
                _finish(course)
            except BaseException as caught:
                signals.ignore()
                failures = undo_what_was_cut_off(course.places, say) + undo_routes(course.journal, say)
                if not isinstance(caught, CanaryError):
                    raise
                error = caught
        try:
            for failure in failures:
                say(f"NOT PUT BACK: {failure}")
            if isinstance(error, UsageError) and not _touched(course):
                shutil.rmtree(folder.path)
                raise error
            if error is not None:
                course.note(error=str(error))
            folder.meta["outcome"] = {"error": str(error or ""), "not_put_back": failures}
            folder.save()
            verdict = conclude_operation(folder.path)
        finally:
            folder.unlock()
    return Result(folder.path, verdict, error, tuple(failures))


def _finish(course: Course) -> None:
    with suppress(CanaryError):  # which version it was is worth knowing, and no reason to fail
        course.folder.meta["server"] = course.places[0].control.server() if course.places else {}
    with course.journal.action("run.end", course.scenario.name):
        course.note(finished=True)
        course.folder.meta["finished"] = True
        course.folder.save()


def _touched(course: Course) -> bool:
    """Whether anything was done that is not a process of our own, or the attempt itself."""
    return any(place.changed for place in course.places if place.server is None)
