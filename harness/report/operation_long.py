"""The facts of long-context as tables: what fits, where it ends, what was measured, what is only estimated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report import words
from harness.report.fact_table import FactTable

Facts = Mapping[str, Any]
_PHASE = {"ladder": "ladder", "ramp": "ramp", "edge": "edge", "reduced": "smaller batch, ramp"}


def long_tables(observations: Facts) -> list[FactTable]:
    """Those of the candidate first. What they show was reckoned by the judge and lies in `derived`; of a run that was
    cut short there are the points alone.
    """
    found: list[FactTable] = []
    for name in ("candidate", "baseline"):
        arm, derived = (observations.get(key, {}).get(name) for key in ("arms", "derived"))
        if arm is None:
            continue
        who = f"{name}, {arm['model']} version {arm['version']}"
        if derived is not None:
            found += [_cells(who, derived), _edges(who, derived), _estimates(who, observations, derived)]
        found.append(_points(who, arm, observations))
    notes = [(str(note),) for note in dict.fromkeys(observations.get("notes") or [])]
    return [*found, FactTable("Not read", ("what",), notes)]


def _cells(who: str, derived: Facts) -> FactTable:
    """Context by batch."""
    cells: list[Facts] = derived["cells"]
    batches = sorted({cell["batch"] for cell in cells})
    by_place = {(cell["context"], cell["batch"]): cell for cell in cells}
    largest = {row["context"]: row for row in derived["largest"]}
    rows = [
        (
            f"{context:,}",
            *(_cell(by_place[context, batch]) for batch in batches),
            _number(row["verified"]),
            _number(row["foretold"]),
        )
        for context, row in largest.items()
    ]
    columns = ("tokens", *(f"batch {batch}" for batch in batches), "largest that fits", "largest foretold")
    meant = f"fits: at most {words.percent(derived['limit'])}; in brackets: follows from another cell"
    return FactTable(f"Context by batch: {who} ({meant})", columns, rows)


def _cell(cell: Facts) -> str:
    """`fits, 61 %`; in brackets what was not measured in that cell."""
    if cell["measured"]:
        took = f", {_percent(cell['share'])}" if cell["share"] is not None else ""
        return f"{cell['answer']}{took}"
    if cell["answer"] != "unverified":
        return f"({cell['answer']})"
    return f"unverified, foretold {_percent(cell['foretold'])}" if cell["foretold"] is not None else "unverified"


def _edges(who: str, derived: Facts) -> FactTable:
    rows = [
        (str(row["batch"]), _tokens(row["safe"]), _tokens(row["edge"]))
        for row in derived["edges"]
    ]  # fmt: skip
    limit = words.percent(derived["limit"])
    columns = ("batch", f"tokens within {limit} (99 % sure)", "tokens at which memory ends")
    return FactTable(f"Where memory ends, by the fit: {who}", columns, rows)


def _estimates(who: str, observations: Facts, derived: Facts) -> FactTable:
    goal, headroom = observations["goal"], derived["headroom"]
    rows = []
    if headroom["measured"] is not None:
        rows.append(("measured", *_taken(1 - headroom["measured"]), "as it is"))
    if headroom["foretold"] is not None:
        rows.append(("foretold", *_taken(1 - headroom["foretold"]), "as it is, 99 % sure at most"))
    rows += [("estimate", *_taken(each["share"]), f"not measured: {each['what']}") for each in derived["estimates"]]
    title = f"Memory at {goal['context']:,} tokens, batch {goal['batch']}: {who}"
    return FactTable(title, ("how known", "takes", "headroom", "what"), rows)


def _taken(share: float) -> tuple[str, str]:
    """It, and what it leaves; where it is more than there is, it leaves nothing."""
    return _percent(share), _percent(1 - share) if share <= 1 else "does not fit"


def _points(who: str, arm: Facts, observations: Facts) -> FactTable:
    watched = arm.get("watched") or {"what": "no memory could be read", "capacity": {}}
    devices = list(watched["capacity"])
    rows = [
        (
            _PHASE[point["phase"]] + (f" {point['repeat'] + 1}" if point["phase"] in ("ramp", "reduced") else ""),
            f"{point['tokens']:,}",
            str(point["batch"]),
            *(_peak(point, watched, device) for device in devices),
            words.seconds(point["seconds"]),
            point["outcome"] + (f": {point['error']}" if point["error"] else ""),
        )
        for point in arm["points"]
    ]
    columns = ("part", "tokens", "batch", *(f"peak of {device}" for device in devices), "took", "outcome")
    sizes = " and ".join(_amount(watched, size) for size in watched["capacity"].values())
    of = f", of {sizes}" if sizes and not watched["preallocated"] else ""
    return FactTable(f"Measured: {who} ({watched['what']}{of}{_how(arm, observations)})", columns, rows)


def _how(arm: Facts, observations: Facts) -> str:
    """What may have been missed between two readings."""
    if not (arm.get("watched") or {}).get("capacity"):
        return ""
    if arm["points"] and all(point.get("high_water") for point in arm["points"]):
        return "; the kernel's own high-water marks"
    every_s = observations.get("gpu_every_s" if arm["watched"].get("source") == "nvml" else "every_s")
    return f"; read every {1000 * every_s:.0f} ms, what is shorter may be missed" if every_s else ""


def _peak(point: Facts, watched: Facts, device: str) -> str:
    if device not in point["peak"]:
        return words.NONE
    value = point["peak"][device]
    share = _percent(value / watched["capacity"][device])
    return share if watched["preallocated"] else f"{_amount(watched, value)} ({share})"


def _amount(watched: Facts, value: float) -> str:
    return words.percent(value) if watched["preallocated"] else words.size(value, "bytes")


def _number(value: int | None) -> str:
    return words.NONE if not value else str(value)


def _tokens(value: float | None) -> str:
    return "no end in sight" if value is None else f"{value:,.0f}"


def _percent(share: float) -> str:
    """No line ends before the sign."""
    return f"{share * 100:.0f}\N{NO-BREAK SPACE}%"
