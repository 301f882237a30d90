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
Files = Mapping[str, Any]  # size and SHA-256 by path


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
        found.append(_outputs(region, reference, answering, published))
    return tuple(found)


def done(observations: Facts) -> str:
    regions = names(region["name"] for region in observations.get("regions", []))
    what = f"{observations['model']} version {observations['version']}"
    return f"{regions} serve the same bytes of {what} and give the same answers"


def region_of(metric: str) -> str:
    """Whose finding it is; a region's name may have dots."""
    return metric.removeprefix("region.").rpartition(".")[0]


def failed(findings: Sequence[Finding]) -> str:
    """Every region that failed by name, and that the others did not."""
    by_region: dict[str, list[Finding]] = {}
    for finding in findings:
        by_region.setdefault(region_of(finding.metric), []).append(finding)
    bad = [name for name, own in by_region.items() if any(finding.outcome == "fail" for finding in own)]
    good = [name for name in by_region if name not in bad]
    first = next(finding.reason for finding in findings if finding.outcome == "fail")
    return f"{names(bad)} failed{f', {names(good)} did not' if good else ''}: {first}"


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


def _bytes(region: Facts, published: Files | None) -> Finding:
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


def _reference(answering: Sequence[Facts], published: Files | None) -> Facts | None:
    def merit(index: int) -> tuple[int, bool, int]:
        region = answering[index]
        agreeing = sum(apart(region["answers"], other["answers"]).same for other in answering)
        return agreeing, published is not None and region.get("files") == published, -index

    return answering[max(range(len(answering)), key=merit)] if answering else None


def _outputs(region: Facts, reference: Facts | None, answering: Sequence[Facts], published: Files | None) -> Finding:
    metric, name = f"region.{region['name']}.outputs", region["name"]
    if reference is None or not any(region is other for other in answering):
        return fact(metric, "no data", f"{name} did not answer the whole probe set")
    if len(answering) < 2:
        return fact(metric, "no data", f"{name} is the only region that answers: there is nothing to compare with")
    if region is reference:
        return _own(metric, region, [other for other in answering if other is not region])
    found = apart(region["answers"], reference["answers"])
    return _compared(region, reference, found, published, two=len(answering) == 2)


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


def _compared(region: Facts, other: Facts, found: Apart, published: Files | None, *, two: bool) -> Finding:
    metric, name = f"region.{region['name']}.outputs", region["name"]
    if not found.compared:
        return fact(metric, "no data", f"No answer of {name} is repeated when asked twice, so none can be compared")
    apart_by, floor_of = _relative(found.difference), f"{_relative(found.floor)} of a region asked twice"
    if found.differing:
        reason = f"{name} answers otherwise than {other['name']}: {names(found.differing)}"
    elif not found.same:
        limit = f"more than twice the {floor_of}" if found.floor else "and asked twice each repeats itself"
        reason = f"{name} differs from {other['name']} by {apart_by}, {limit}"
    elif found.difference == 0:
        reason = f"{name} answers as {other['name']} does, in {amount(found.compared, 'output')}"
    else:
        reason = f"{name} differs from {other['name']} by {apart_by}, within twice the {floor_of}"
    if found.same and found.excused:
        reason += f"; {amount(found.excused, 'answer')} not repeated and left out"
    if not found.same and two and region.get("files") == published == other.get("files"):
        reason += "; of two regions with the same bytes nobody can say which one is right"
    return Finding(
        metric, "pass" if found.same else "fail", reason, kind="watch", unit="rate",
        effect=found.difference if math.isfinite(found.difference) else None, margin=found.allowed,
    )  # fmt: skip


def _relative(value: float) -> str:
    return f"{100 * value:.2g} %" if math.isfinite(value) else "values that are no numbers"
