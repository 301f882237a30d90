"""Campaign: is the edge where long-context says it is, and is every verified cell of its table right?

On the embedded Triton and ten layers of the language model, for three hard limits of an instance: the scenario, then
each cell that follows from others asked in an instance of its own. And ten seeds: of all points that were answered
under the loosest limit, twelve at random are fitted, and the edge of each limit is foretold from them alone. Rows of
`reports/examples/memory-edge.csv` that are there are not made again; rewrites `memory-edge.md` after each.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import CanaryError
from harness.failures import kind_of
from harness.judge.statistics.memory_fit import Point, fit
from harness.run.operations.operate import operate
from harness.scenario import Operation, Writer, load
from harness.tensors import Tensor, encode
from harness.triton import Control

REPORTS = Path(__file__).resolve().parents[2] / "reports" / "examples"
TABLE, PAGE = REPORTS / "memory-edge.csv", REPORTS / "memory-edge.md"
LIMITS = (416, 422, 428)
LAYERS = 10
SEEDS, DRAWN = 10, 12
BATCH, ANSWER, TEMPLATE = 2, 4, 30
MODEL = "smollm2_batched"
SCENARIO = """
kind: long-context
name: memory-edge
target: {{server: embedded}}
candidate: {{model: smollm2_batched, version: 1, build: {{layers: 10, memory: {limit}MiB}}, kv_bits: 32}}
goal: {{context: 640, batch: 2}}
contexts: [256, 320, 384, 448, 512, 640]   # from one whole block of the prefill on: what it needs for a moment stays
batches: [1, 2, 3]
max_tokens: 4
repeats: 1
limits: {{memory: 99%, edge: 2%}}
"""
COLUMNS = ("what", "limit_mib", "seed", "foretold", "answered", "not_answered", "off", "cells", "wrong", "points")
Row = dict[str, str]


def main() -> int:
    rows = _read()
    known = {(row["what"], row["limit_mib"], row["seed"]) for row in rows}
    folder = Path(tempfile.mkdtemp(prefix="memory-edge-"))
    kept = REPORTS / "memory-edge.json"
    measured: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    try:
        for limit in LIMITS:
            if ("edge", str(limit), "") not in known:
                row, measured[str(limit)] = _edge(limit, folder)
                kept.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n")
                _add(rows, row)
        for limit in LIMITS:
            for seed in range(1, SEEDS + 1):
                if ("seed", str(limit), str(seed)) not in known:
                    _add(rows, _seed(limit, seed, measured))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if any(row["wrong"] not in ("", "0") or abs(float(row["off"])) > 0.1 for row in rows) else 0


def _edge(limit: int, folder: Path) -> tuple[Row, dict[str, Any]]:
    """One run of the scenario, and its table held against a fresh instance for each cell."""
    file = folder / f"{limit}.yaml"
    file.write_text(SCENARIO.format(limit=limit))
    scenario = load(file)
    assert isinstance(scenario, Operation)
    result = operate(scenario, folder / "out", lambda line: print(line, file=sys.stderr, flush=True))
    facts = json.loads((result.folder / "observations.json").read_text())
    arm, derived = facts["arms"]["candidate"], facts["derived"]["candidate"]
    # What was measured in its own cell is what it is; what follows from other cells is asked.
    verified = [cell for cell in derived["cells"] if cell["answer"] != "unverified" and not cell["measured"]]
    wrong = sum(_runs(limit, cell, folder) != (cell["answer"] != "does not") for cell in verified)
    ok, bad = _bracket(arm["points"])
    foretold = next(row["edge"] for row in derived["edges"] if row["batch"] == BATCH)
    row = {
        "what": "edge", "limit_mib": str(limit), "seed": "", "foretold": f"{foretold:.0f}", "answered": str(ok),
        "not_answered": str(bad), "off": f"{foretold / ((ok + bad) / 2) - 1:.4f}", "cells": str(len(verified)),
        "wrong": str(wrong), "points": str(sum(point["phase"] == "ladder" for point in arm["points"])),
    }  # fmt: skip
    keep = ("tokens", "batch", "peak", "outcome", "phase")
    points = [{key: point[key] for key in keep} for point in arm["points"]]
    return row, {"points": points, "capacity": arm["watched"]["capacity"]}


def _seed(limit: int, seed: int, measured: dict[str, Any]) -> Row:
    """A fit on some of the recorded peaks, and the edge that was measured under that limit."""
    loosest = measured[str(LIMITS[-1])]
    (device,) = loosest["capacity"]
    answered = [point for point in loosest["points"] if point["outcome"] == "ok"]
    drawn = random.Random(seed).sample(answered, DRAWN)
    found = fit([Point(p["tokens"], p["batch"], p["peak"][device]) for p in drawn], loosest["capacity"][device])
    assert found is not None
    ok, bad = _bracket(measured[str(limit)]["points"])
    foretold = found.edge(BATCH, limit * 2**20)
    return {
        "what": "seed", "limit_mib": str(limit), "seed": str(seed), "foretold": f"{foretold:.0f}",
        "answered": str(ok), "not_answered": str(bad), "off": f"{foretold / ((ok + bad) / 2) - 1:.4f}", "cells": "",
        "wrong": "", "points": str(DRAWN),
    }  # fmt: skip


def _bracket(points: list[dict[str, Any]]) -> tuple[int, int]:
    mine = [point for point in points if point["batch"] == BATCH]
    return (
        max(point["tokens"] for point in mine if point["outcome"] == "ok"),
        min(point["tokens"] for point in mine if point["outcome"] == "out of memory"),
    )


def _runs(limit: int, cell: dict[str, Any], folder: Path) -> bool:
    """Whether that context and batch are answered by an instance of its own under that limit."""
    repository = Path(tempfile.mkdtemp(dir=folder))
    build_repository(repository / "models", {MODEL: {1: {"layers": LAYERS, "memory": f"{limit}MiB"}}})
    rows = cell["batch"]
    texts = [Writer(rows * 1000 + row).prompt(cell["context"] - ANSWER - TEMPLATE, None).text for row in range(rows)]
    tensors = [
        Tensor("text_input", "BYTES", (rows, 1), encode("BYTES", texts)),
        Tensor("max_tokens", "INT32", (rows, 1), encode("INT32", [ANSWER] * rows)),
    ]
    with EmbeddedServer(repository / "models", repository / "server.log") as server:
        server.start({MODEL: [1]})
        with Control(server.grpc_url) as control:
            try:
                control.infer(MODEL, 1, tensors, 600.0)
            except CanaryError as error:
                if kind_of(str(error)) != "out of memory":
                    raise
                return False
    return True


def _add(rows: list[Row], row: Row) -> None:
    rows.append(row)
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    PAGE.write_text(_page(rows))
    print(" ".join(f"{key}={value}" for key, value in row.items() if value), flush=True)


def _read() -> list[Row]:
    return list(csv.DictReader(TABLE.open())) if TABLE.exists() else []


def _page(rows: list[Row]) -> str:
    edges = sorted((row for row in rows if row["what"] == "edge"), key=lambda row: int(row["limit_mib"]))
    lines = [
        "# Where memory ends: foretold and measured", "",
        "`make memory-edge`: the embedded Triton, ten layers of SmolLM2-135M, a hard limit for its instance, "
        f"batch {BATCH}. Foretold by the ladder's fit; measured between the longest context that was answered and the "
        "shortest that ran out of memory, each in a fresh instance. Every cell of the table that the report calls "
        "verified and that was not measured itself was asked in an instance of its own.", "",
        "| limit | foretold | answered | not answered | off | cells asked | wrong |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['limit_mib']} MiB | {row['foretold']} | {row['answered']} | {row['not_answered']} | "
            f"{float(row['off']):+.1%} | {row['cells']} | {row['wrong']} |"
            for row in edges
        ), "",
        f"Ten seeds: of the peaks recorded under {LIMITS[-1]} MiB, {DRAWN} at random, fitted; the edge of each limit "
        "foretold from them alone.", "",
        "| limit | off, of ten seeds: least | median | most |", "|---|---|---|---|",
    ]  # fmt: skip
    for limit in LIMITS:
        off = sorted(float(row["off"]) for row in rows if row["what"] == "seed" and row["limit_mib"] == str(limit))
        if off:
            lines.append(f"| {limit} MiB | {off[0]:+.1%} | {off[len(off) // 2]:+.1%} | {off[-1]:+.1%} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
