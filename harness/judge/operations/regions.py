"""multi-region: each region has the published bytes, serves the version, and answers as the others do.

A region that fails is named. The others are not compared with it but with the reference: the region that most others
agree with, and among equals the first whose bytes are right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.judge.operations.answers import Apart, apart, floor
from harness.judge.operations.facts import amount, fact, names, versions
from harness.types import Finding

Facts = Mapping[str, Any]


def findings(observations: Facts) -> tuple[Finding, ...]:
    """`region.NAME.ready`, `region.NAME.bytes` and `region.NAME.outputs` of every region."""
    regions = observations.get("regions", [])
    published = (observations.get("published") or {}).get("files")
    answering = [region for region in regions if _answered(region, observations["probes"])]
    reference = _reference(answering, published)
    found = []
    for region in regions:
        found.append(_ready(region, observations))
        found.append(_bytes(region, published))
        found.append(_outputs(region, reference, answering))
    return tuple(found)


def done(observations: Facts) -> str:
    regions = names(region["name"] for region in observations.get("regions", []))
    what = f"{observations['model']} version {observations['version']}"
    return f"{regions} serve the same bytes of {what} and give the same answers"


def _ready(region: Facts, observations: Facts) -> Finding:
    metric, name, version = f"region.{region['name']}.ready", region["name"], observations["version"]
    ready = region.get("ready")
    error = region.get("error") or ""
    if ready is None:
        if error:
            return fact(metric, "fail", f"{name}: {error}")
        return fact(metric, "no data", f"{name} was not looked at")
    if version not in ready:
        why = f": {error}" if error else ""
        return fact(metric, "fail", f"{name} serves {versions(ready)}, and not {version}{why}")
    if error:
        return fact(metric, "fail", f"{name}: {error}")
    return fact(metric, "pass", f"{name} serves {versions(ready)}")


def _bytes(region: Facts, published: Mapping[str, Any] | None) -> Finding:
    metric, name = f"region.{region['name']}.bytes", region["name"]
    files = region.get("files")
    if published is None or files is None:
        return fact(metric, "no data", f"The bytes in {name}'s repository were not seen")
    wrong = [f"{path} is not there" for path in published if path not in files]
    wrong += [f"{path} was not published" for path in files if path not in published]
    wrong += [f"{path} is another file" for path in published if path in files and files[path] != published[path]]
    if wrong:
        return fact(metric, "fail", f"{name} has other bytes than were published: {names(wrong)}")
    return fact(metric, "pass", f"All {amount(len(files), 'file')} have the size and SHA-256 that were published")


def _answered(region: Facts, probes: int) -> bool:
    return len(region.get("answers") or ()) == probes and probes > 0


def _reference(answering: Sequence[Facts], published: Mapping[str, Any] | None) -> Facts | None:
    def merit(index: int) -> tuple[int, bool, int]:
        region = answering[index]
        agreeing = sum(apart(region["answers"], other["answers"]).same for other in answering)
        return agreeing, published is not None and region.get("files") == published, -index

    return answering[max(range(len(answering)), key=merit)] if answering else None


def _outputs(region: Facts, reference: Facts | None, answering: Sequence[Facts]) -> Finding:
    metric, name = f"region.{region['name']}.outputs", region["name"]
    if reference is None or not any(region is other for other in answering):
        return fact(metric, "no data", f"{name} did not answer the whole probe set")
    if len(answering) < 2:
        return fact(metric, "no data", f"{name} is the only region that answers: there is nothing to compare with")
    if region is reference:
        return _own(metric, region, [other for other in answering if other is not region])
    found = apart(region["answers"], reference["answers"])
    return _compared(metric, name, reference["name"], found, two=len(answering) == 2)


def _own(metric: str, region: Facts, others: Sequence[Facts]) -> Finding:
    """The reference's: it is what the others are held against, so it only has to say something."""
    noise = floor(region["answers"])
    own = "asked twice, it repeats itself" if noise == 0 else f"asked twice, it differs by {_relative(noise)}"
    said = f"{region['name']} is what the others are compared with: {own}"
    found = {other["name"]: apart(region["answers"], other["answers"]) for other in others}
    if not any(one.compared for one in found.values()):
        return fact(metric, "no data", f"{said}; no answer can be compared")
    agreeing = [name for name, one in found.items() if one.same]
    agree = f"{names(agreeing)} {'agrees' if len(agreeing) == 1 else 'agree'}" if agreeing else "no other region agrees"
    return fact(metric, "pass", f"{said}; {agree}")


def _compared(metric: str, name: str, other: str, found: Apart, *, two: bool) -> Finding:
    if not found.compared:
        return fact(metric, "no data", f"No answer of {name} is repeated when asked twice, so none can be compared")
    excused = f"; {amount(found.excused, 'answer')} not repeated and left out" if found.excused else ""
    unsure = "; with two regions, which of them is right is for the bytes to say" if two else ""
    if found.differing:
        reason = f"{name} answers otherwise than {other}: {names(found.differing)}{unsure}"
    elif not found.same:
        limit = (
            f"more than twice the {_relative(found.floor)} within a region" if found.floor else "and not at all within"
        )
        reason = f"{name} differs from {other} by {_relative(found.difference)}, {limit}{unsure}"
    elif found.difference == 0:
        reason = f"{name} answers as {other} does, in {amount(found.compared, 'output')}{excused}"
    else:
        reason = (
            f"{name} differs from {other} by {_relative(found.difference)}, "
            f"within twice the {_relative(found.floor)} of a region asked twice{excused}"
        )
    return Finding(
        metric, "pass" if found.same else "fail", reason, kind="watch", unit="rate",
        effect=found.difference if math.isfinite(found.difference) else None, margin=found.allowed,
    )  # fmt: skip


def _relative(value: float) -> str:
    return f"{100 * value:.2g} %" if math.isfinite(value) else "values that are no numbers"
