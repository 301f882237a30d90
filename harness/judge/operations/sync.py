"""repo-sync: what changed arrived verified and serves, the rest was not touched, a broken download changed nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.judge.operations.facts import amount, fact, failed, names
from harness.types import Finding

Facts = Mapping[str, Any]

__all__ = ["done", "failed", "findings"]


def findings(observations: Facts) -> tuple[Finding, ...]:
    """`sync.changed`, `sync.untouched`, and `sync.broken` where a download was broken on purpose or by itself."""
    rounds = observations.get("rounds", [])
    whole = [one for one in rounds if not one["broken"]]
    broken = [one for one in rounds if one["broken"] or one.get("refused")]
    found = [_changed(whole), _untouched(rounds)]
    if broken or observations.get("demonstration"):
        found.append(_broken(broken))
    return tuple(found)


def done(observations: Facts) -> str:
    rounds = observations.get("rounds", [])
    added = sum(len(_added(one)) for one in rounds)
    refused = sum(bool(one.get("refused")) for one in rounds)
    tail = f"; {amount(refused, 'broken download')} changed nothing" if refused else ""
    if not added:
        return f"The repository holds all that the store has: nothing had changed{tail}"
    return f"{amount(added, 'changed version')} verified and serving, the rest not touched{tail}"


def _changed(rounds: list[Facts]) -> Finding:
    metric, wrong, shown = "sync.changed", [], 0
    for one in rounds:
        if one.get("refused"):
            return fact(metric, "no data", f"Nothing came from the store: {one['refused']}")
        if not one.get("sync") or not one.get("after"):
            return fact(metric, "no data", f"Round {one['name']} did not come to its end")
        added = _added(one)
        wrong += [f"{version} did not arrive" for version in one["expected"] if version not in added]
        for version in added:
            shown += 1
            wrong += _not_serving(version, one)
    if wrong:
        return fact(metric, "fail", f"What changed is not served as it was published: {names(wrong)}")
    if not rounds:
        return fact(metric, "no data", "No sync was made")
    if not shown:
        return fact(metric, "pass", "The store had nothing that the repository lacked")
    every = names(version for one in rounds for version in _added(one))
    return fact(metric, "pass", f"{every}: every file has the SHA-256 of its manifest, and what was loaded answers")


def _added(one: Facts) -> list[str]:
    """The versions that lie in the repository since this round."""
    return sorted(set(one["after"]["versions"]) - set(one["before"]["versions"])) if one.get("after") else []


def _not_serving(version: str, one: Facts) -> list[str]:
    after = one["after"]
    if version not in after["versions"]:
        return [f"{version} is not in the repository"]
    differences = one["differences"].get(version)
    if differences is None:
        return [f"{version} was not verified"]
    if differences:
        return [f"{version}: {differences[0]}"]
    if version not in one["wanted"]:
        return []  # an older version that arrived, and that `load` does not ask for
    if version not in after["serving"]:
        return [f"{version} does not serve"]
    answer = one["probes"].get(version)
    return [] if answer == "" else [f"{version} answers no probe: {answer or 'it was not asked'}"]


def _untouched(rounds: list[Facts]) -> Finding:
    metric, wrong, kept = "sync.untouched", list[str](), set[str]()
    same: dict[str, int] = {}
    for one in rounds:
        before, after = one.get("before"), one.get("after")
        if not before or not after:
            return fact(metric, "no data", f"Round {one['name']} did not come to its end")
        changed = {version.partition("/")[0] for version in _added(one)}
        changed |= {model for model, stamp in after["models"].items() if before["models"].get(model) != stamp}
        for version, stamp in before["versions"].items():
            kept.add(version)
            wrong += _files(version, stamp, after["versions"].get(version))
        for version, seen in before["serving"].items():
            if version.partition("/")[0] not in changed:
                later = after["serving"].get(version)
                same[version] = len(set(seen["processes"] or ()) & set((later or {}).get("processes") or ()))
                wrong += _serves_on(version, seen, later)
    if wrong:
        return fact(metric, "fail", f"Something that did not change was touched: {names(wrong)}")
    if not rounds:
        return fact(metric, "no data", "No sync was made")
    if not kept:
        return fact(metric, "pass", "The repository was empty before")
    proof = f"Same inodes and times in {amount(len(kept), 'directory', 'directories')}"
    if same:
        processes = sum(same.values())
        by = f"the same {amount(processes, 'process', 'processes')}" if processes else "the same counters"
        proof += f"; what a round did not change ({names(sorted(same))}) was served on by {by}"
    return fact(metric, "pass", proof)


def _files(version: str, before: Facts, after: Facts | None) -> list[str]:
    if after is None:
        return [f"the directory of {version} is gone"]
    return [] if after == before else [f"files of {version} are not the same"]


def _serves_on(version: str, before: Facts, after: Facts | None) -> list[str]:
    if after is None:
        return [f"{version} serves no more"]
    then, now = set(before["processes"] or ()), set(after["processes"] or ())
    # Those of an earlier load may still have been about to end; nobody comes without a load.
    if now - then or (then and not now):
        return [f"{version} was initialised anew: other processes serve it"]
    if after["success"] < before["success"] or after["failure"] < before["failure"]:
        return [f"{version} was initialised anew: its request counters began again"]
    return []


def _broken(rounds: list[Facts]) -> Finding:
    metric = "sync.broken"
    if not rounds:
        return fact(metric, "no data", "No broken download was tried")
    for one in rounds:
        before, after = one.get("before"), one.get("after")
        if not before or not after:
            return fact(metric, "no data", f"Round {one['name']} did not come to its end")
        if not one.get("refused"):
            return fact(metric, "fail", f"Round {one['name']}: a version with other bytes than its manifest was taken")
        if set(after["entries"]) != set(before["entries"]):
            strange = sorted(set(after["entries"]) ^ set(before["entries"]))
            return fact(metric, "fail", f"The broken download changed the repository: {names(strange)}")
        if sorted(after["serving"]) != sorted(before["serving"]):
            return fact(metric, "fail", f"The broken download changed what serves: {names(sorted(after['serving']))}")
    return fact(metric, "pass", f"Nothing changed: {rounds[-1]['refused']}")
