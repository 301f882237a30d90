"""The facts of operations that send loads, as tables: what each load was like in each phase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.recording import quantile
from harness.report import words
from harness.report.fact_table import FactTable
from harness.report.operation_memory import memory_table

Facts = Mapping[str, Any]
QUANTILES = (0.5, 0.95, 0.99)

_NIGHT = {
    "switched": (
        "day, before dusk", "dusk, still the day's setting", "dusk, during the switch", "night", "night",
        "dawn, during the switch", "dawn, the day's setting again", "dawn, the day's setting again",
    ),
    "compared": (
        "one deployment, day's setting", "during the switch to the night's", "A: one deployment, night's setting",
        "during the switch back", "B: two deployments", "one deployment, day's setting again",
    ),
}  # fmt: skip


def server_tables(observations: Facts) -> list[FactTable]:
    """multi-model-server."""
    names = {phase["index"]: " and ".join(phase["models"]) for phase in observations.get("phases") or []}
    models = observations.get("models") or {}
    asked = [
        (name, model["model"], str(model["version"] or "highest"), model["load"], model["url"], model["api"])
        for name, model in models.items()
    ]
    return [
        FactTable("Loads", ("load", "model", "version", "asked", "called at", "api"), asked),
        _phases(observations, lambda stage: f"{stage + 1}: {names.get(stage, 'cut short')}"),
        memory_table(
            (f"{number + 1}: {names.get(number, 'cut short')}", read)
            for number, read in enumerate(observations.get("memory") or [])
        ),
        FactTable("Not read", ("what",), [(str(note),) for note in observations.get("notes") or []]),
    ]


def night_tables(observations: Facts) -> list[FactTable]:
    """night-batch."""
    moments = _NIGHT["compared" if observations.get("separate") else "switched"]
    switches = [
        (switch["when"], words.seconds(switch["took_s"]), ", ".join(switch["called"]) or words.NONE)
        for switch in observations.get("switches") or []
    ]
    seen = [
        (moment, url, version, setting["words"])
        for moment, urls in (observations.get("seen") or {}).items()
        for url, versions in urls.items()
        for version, setting in versions.items()
    ]
    return [
        _phases(observations, lambda stage: moments[stage]),
        memory_table((moments[read["stage"]], read) for read in observations.get("memory") or []),
        FactTable("Switches, under load", ("at", "took", "servers"), switches),
        FactTable("Settings, as read from the servers", ("after", "server", "version", "setting"), seen),
    ]


def _phases(observations: Facts, name: Any) -> FactTable:
    windows = sorted(observations.get("windows") or [], key=lambda window: (window["stage"], window["load"]))
    columns = (
        "phase", "load", "seconds", "sent", "failed", "done/s", "tokens/s", "p50", "p95", "p99", "ttft p50", "tpot p50",
    )  # fmt: skip
    return FactTable(
        "What each load was like", columns, [(name(window["stage"]), *_window(window)) for window in windows]
    )


def _window(window: Facts) -> tuple[str, ...]:
    blocks: Sequence[Facts] = window["blocks"]
    seconds = sum(block["seconds"] for block in blocks)
    tokens = sum(block["tokens"] for block in blocks)
    return (
        window["load"],
        f"{window['seconds']:.0f}",
        str(sum(block["due"] for block in blocks)),
        str(sum(block["failed"] for block in blocks)),
        words.number(sum(block["done"] for block in blocks) / seconds),
        words.number(tokens / seconds) if tokens else words.NONE,
        *(_time(blocks, "response_time", q) for q in QUANTILES),
        _time(blocks, "ttft", 0.5),
        _time(blocks, "tpot", 0.5),
    )


def _time(blocks: Iterable[Facts], metric: str, q: float) -> str:
    found = [block["times"][metric] for block in blocks if block["times"].get(metric)]
    if not found:
        return words.NONE
    bins, counts = ([value for part in found for value in part[side]] for side in (0, 1))
    return words.seconds(float(quantile(bins, counts, q)))
