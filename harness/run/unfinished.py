"""Before a run begins: nobody else is at its servers and routers, and what an earlier run left there is put back."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.errors import CanaryError, WorldError
from harness.ingress import open_ingress
from harness.run.holder import Left
from harness.run.lease import Lease
from harness.run.placed import placed_in, remove
from harness.run.put_back import Say
from harness.run.recover import put_back_only
from harness.run.target import access_of
from harness.scenario import Operation, PlaceConfig, Scenario
from harness.triton import Control


def alone(wanted: Scenario | Operation, folder: Path, say: Say) -> Lease:
    """A lease on everything that it may change outside of `folder`, with nothing left there by other runs.

    Raises UsageError where another run has it, and WorldError, with the command that finishes it, where what an earlier
    run had changed cannot be put back: its lease and ours are then as they were.
    """
    lease = Lease.take(changes(wanted), folder)
    try:
        for left in lease.left:
            _put_back(lease, left, wanted, say)
    except BaseException:
        lease.release()
        raise
    return lease


def changes(wanted: Scenario | Operation) -> list[str]:
    """The servers and routers of others that a run of it may change."""
    found = _arms(wanted) if isinstance(wanted, Scenario) else _places(wanted)
    ingress = getattr(wanted, "ingress", None)
    if ingress is not None:
        found += [open_ingress(address).target for address in ingress.control or ()]
    return list(dict.fromkeys(found))


def _arms(scenario: Scenario) -> list[str]:
    found = []
    for arm in scenario.arms.values() if scenario.target.server is None else ():
        url = scenario.target.url if arm.api == "openai" or arm.url is None else arm.url
        # An arm that only brings its address is compared, not operated.
        if url is not None and (arm.operated or arm.stoppable):
            found.append(url)
    return found


def _places(operation: Operation) -> list[str]:
    """Where it sends load and nothing else, it changes nothing."""
    places = [*getattr(operation, "regions", ()), getattr(operation, "target", None)]
    return [place.url for place in places if isinstance(place, PlaceConfig) and place.url is not None]


def _put_back(lease: Lease, left: Left, wanted: Scenario | Operation, say: Say) -> None:
    path, command = Path(left.folder), f"triton-canary recover {shlex.quote(left.folder)}"
    if not path.is_dir():
        if left.host != lease.host:
            raise WorldError(f"{path}: this run ended on {left.host} with changes to put back: there: {command}")
        say(f"{path}: this run ended with changes to put back, and is gone: see `route show` and `models status`")
        if isinstance(wanted, Scenario):
            _take_away(wanted, path, say)
        lease.settled(left)
        return
    lines: list[str] = []
    try:
        failures = put_back_only(path, lines.append, lease.targets)
    except CanaryError as error:
        failures = [f"{error}; to finish: {command}"]
    if failures:
        raise WorldError(f"{path}: what this earlier run had changed is NOT PUT BACK: {'; '.join(failures)}")
    say(f"{path}: this earlier run had left changes, put back now: {'; '.join(lines) or 'all was as before'}")
    lease.settled(left)


def _take_away(scenario: Scenario, run: Path, say: Say) -> None:
    """The builds that a run had put into the repository, though its journal is gone: they bear its mark. CI systems
    clean the working tree of a job that was killed before the next one begins.
    """
    url, repository = scenario.target.url, scenario.target.repository
    if url is None or repository is None:
        return
    with Control(url, access_of(scenario.baseline.arm(url))) as control:
        for folder, owner in placed_in(Path(repository)).items():
            if owner == str(run):
                control.unload(folder.name)
                say(remove(folder, run))
