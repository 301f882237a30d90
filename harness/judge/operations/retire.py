"""retire-model: nobody asks it, it is unloaded, then its directory goes, and what stays answers all the while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.judge.operations.facts import amount, fact, failed, names, versions
from harness.types import Finding

Facts = Mapping[str, Any]

__all__ = ["done", "failed", "findings"]


def findings(observations: Facts) -> tuple[Finding, ...]:
    """`traffic.vN` of the version that goes and of the one that stays, `retire.unloaded`, `retire.directory`.

    Where the version was refused, `retire.unchanged` instead of the last two.
    """
    found = [_traffic(observations)]
    found += [_unchanged(observations)] if observations.get("refused") else _retired(observations)
    return (*found, _steady(observations))


def done(observations: Facts) -> str:
    what = {"archive": "archived", "remove": "removed"}[observations["then"]]
    return f"{_going(observations)} is unloaded and its directory {what}"


def _going(observations: Facts) -> str:
    return f"{observations['model']} version {observations['version']}"


def _traffic(observations: Facts) -> Finding:
    metric = f"traffic.v{observations['version']}"
    before, arrivals = observations.get("before"), observations.get("arrivals")
    if before is not None and observations["version"] not in before["ready"]:
        return fact(metric, "pass", f"{_going(observations)} did not serve any more, so no request could arrive")
    if arrivals is None:
        return fact(metric, "no data", f"Whether requests arrive at {_going(observations)} was not seen")
    requests, window_s = arrivals["requests"], arrivals["window_s"]
    if requests:
        seen = "a request still arrives" if requests == 1 else f"{requests} requests still arrive"
        return fact(metric, "fail", f"Not retired: {seen} at {_going(observations)} in {window_s:.3g} s")
    return fact(metric, "pass", f"No request at {_going(observations)} in {window_s:.3g} s, by Triton's own counters")


def _unchanged(observations: Facts) -> Finding:
    metric, after = "retire.unchanged", observations.get("after")
    if after is None:
        return fact(metric, "no data", "What serves after the refusal was not seen")
    before = observations["before"]
    if after["ready"] != before["ready"]:
        return fact(
            metric, "fail", f"Refused, but now {versions(after['ready'])} READY instead of {versions(before['ready'])}"
        )
    if not after["directory"]:
        return fact(metric, "fail", f"Refused, but the directory of {_going(observations)} is gone")
    return fact(metric, "pass", f"Nothing was changed: {versions(after['ready'])} READY, and the directory is there")


def _retired(observations: Facts) -> list[Finding]:
    after, version = observations.get("after"), observations["version"]
    unloaded, directory = "retire.unloaded", "retire.directory"
    if after is None:
        return [
            fact(unloaded, "no data", f"Whether {_going(observations)} left was not seen"),
            fact(directory, "no data", f"Whether the directory of {_going(observations)} left was not seen"),
        ]
    stay = [number for number in observations["before"]["ready"] if number != version]
    if version in after["ready"]:
        found = fact(unloaded, "fail", f"{_going(observations)} still serves")
    elif after["ready"] != stay:
        found = fact(unloaded, "fail", f"READY: {versions(after['ready'])}, and not {versions(stay)}")
    else:
        found = fact(unloaded, "pass", f"READY now: {versions(stay)} and no other, each by its own readiness")
    return [found, _directory(observations, after)]


def _directory(observations: Facts, after: Facts) -> Finding:
    metric, then = "retire.directory", observations["then"]
    if after["directory"]:
        return fact(metric, "fail", f"The directory of {_going(observations)} is still in the repository")
    if then == "archive" and observations.get("archived") is None:
        return fact(metric, "no data", f"Whether the directory of {_going(observations)} is archived was not seen")
    if then == "archive" and not observations["archived"]:
        return fact(metric, "fail", f"The directory of {_going(observations)} left the repository but is in no archive")
    order = [(step["action"], step["state"]) for step in observations.get("journal", [])]
    confirmed = [at for at, (action, state) in enumerate(order) if action == "models.set" and state == "done"]
    left = [at for at, (action, state) in enumerate(order) if action.startswith("version.") and state == "begun"]
    before = observations["before"]
    if not left and not before["directory"]:
        return fact(metric, "pass", "It had left the repository before")
    if not left or (not confirmed and observations["version"] in before["ready"]):
        return fact(metric, "no data", "The journal does not say when the directory left")
    if confirmed and left[0] < confirmed[0]:
        return fact(metric, "fail", "The directory left before the unload was confirmed")
    return fact(metric, "pass", f"It was {then}d only after Triton had confirmed the unload")


def _steady(observations: Facts) -> Finding:
    """Requests of our own to the version that stays, else what Triton counted there."""
    steady, counters, staying = (observations.get(key) for key in ("steady", "counters", "staying"))
    metric = f"traffic.v{staying}" if staying else "traffic.staying"
    if steady is not None:
        sent = amount(steady["sent"], "request")
        if steady["failed"]:
            return fact(metric, "fail", f"{steady['failed']} of {sent} failed: {names(steady['errors'])}")
        if not steady["covers"]:
            return fact(metric, "no data", f"No requests at version {staying} during the whole operation")
        slowest = f"the slowest took {1e3 * steady['slowest_s']:.3g} ms"
        return fact(metric, "pass", f"0 of {sent} failed, before, during and after; {slowest}")
    if counters is None:
        return fact(metric, "no data", "Whether what stays answered meanwhile was not seen")
    failed = counters["after"]["failure"] - counters["before"]["failure"]
    answered = counters["after"]["success"] - counters["before"]["success"]
    if failed or answered < 0:
        wrong = f"{amount(failed, 'request')} failed" if failed > 0 else "its counters began again"
        return fact(metric, "fail", f"Version {staying} stays, but {wrong} meanwhile")
    return fact(metric, "pass", f"Triton counted no failure there, and {amount(answered, 'answer')}, meanwhile")
