"""The facts of an operation as tables, the same in HTML and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.report import words
from harness.report.fact_table import FactTable
from harness.report.operation_ab import ab_tables
from harness.report.operation_find import find_tables
from harness.report.operation_loads import night_tables, server_tables
from harness.report.operation_long import long_tables

Facts = Mapping[str, Any]


def tables(observations: Facts) -> list[FactTable]:
    """None of an empty one; facts that were not observed are dashes."""
    make: dict[str, Callable[[Facts], list[FactTable]]] = {
        "repo-sync": _sync,
        "multi-region": _regions,
        "retire-model": _retire,
        "multi-model-server": server_tables,
        "night-batch": night_tables,
        "find-max-load": find_tables,
        "ab-test": ab_tables,
        "long-context": long_tables,
    }
    return [table for table in make[str(observations["kind"])](observations) if table.rows]


def _sync(observations: Facts) -> list[FactTable]:
    rows, versions = [], []
    for one in observations.get("rounds", []):
        result, before, after = one.get("sync") or {}, one["before"] or {}, one["after"] or {}
        old, new = before.get("versions", {}), after.get("versions", {})
        rows.append(
            (
                one["name"],
                _list(sorted(set(new) - set(old))),
                str(len(set(new) & set(old))),
                f"{_bytes(result['bytes'])} in {words.seconds(result['took_s'])}" if result else words.NONE,
                _list(sorted(after.get("serving", {}))),
            )
        )
        for version, found in one["differences"].items():
            answered = one["probes"].get(version, words.NONE) or "answers"
            versions.append((version, one["name"], found[0] if found else "as published", answered))
    refused = [(one["name"], one["refused"]) for one in observations.get("rounds", []) if one["refused"]]
    return [
        FactTable("Rounds", ("round", "arrived", "versions before", "fetched", "serves afterwards"), rows),
        FactTable("Refused", ("round", "because"), refused),
        FactTable("Versions that arrived", ("version", "in round", "every file's SHA-256", "probe"), versions),
    ]


def _regions(observations: Facts) -> list[FactTable]:
    rows = []
    for region in observations.get("regions", []):
        result = region.get("sync") or {}
        rows.append(
            (
                region["name"],
                region.get("url") or words.NONE,
                _list(region.get("ready") or []),
                _bytes(result["bytes"]) if result else words.NONE,
                f"{len(region.get('answers') or [])} of {observations.get('probes', 0)}",
                region.get("error") or region.get("put_back") or words.NONE,
            )
        )
    columns = ("region", "server", "serves", "fetched", "probes answered twice", "remarks")
    files = (observations.get("published") or {}).get("files", {})
    published = [(path, _bytes(entry["size"]), entry["sha256"]) for path, entry in files.items()]
    return [FactTable("Regions", columns, rows), FactTable("Published", ("file", "size", "SHA-256"), published[:200])]


def _retire(observations: Facts) -> list[FactTable]:
    before, after = observations.get("before"), observations.get("after")
    version = observations.get("version")
    rows = [
        (
            moment,
            _list(seen["ready"]),
            "in the repository" if seen["directory"] else "not in the repository",
        )
        for moment, seen in (("before", before), ("after", after))
        if seen
    ]
    steps = [
        (step["t"][11:23], step["action"], step["target"], step["state"]) for step in observations.get("journal", [])
    ]
    sent = observations.get("steady")
    steady = []
    if sent:
        steady = [(str(sent["version"]), str(sent["sent"]), str(sent["failed"]), words.seconds(sent["slowest_s"]))]
    return [
        FactTable("What serves", ("when", "READY versions", f"directory of version {version}"), rows),
        FactTable("Requests to what stays", ("version", "sent", "failed", "slowest"), steady),
        FactTable("Steps, in the order of the journal", ("when", "step", "of", "state"), steps),
    ]


def _list(items: list[Any]) -> str:
    return ", ".join(map(str, items)) or words.NONE


def _bytes(number: int) -> str:
    return f"{number:,} bytes" if number < 100_000 else words.size(number, "bytes")
