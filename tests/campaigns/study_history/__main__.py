"""Simulates all histories, writes reports/examples/study-history.md, ends with one JSON line of the promised rates.

`QUICK=1`: 60 repetitions a row instead of 1,000, and nothing is written. Every rate is of seeds 0 to n - 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.campaigns.study_history.cells import CHECKED, Happened, checked, followed, peer
from tests.campaigns.study_history.tables import REPEATS, render, required
from tests.campaigns.study_history.worlds import worlds

TABLE = Path(__file__).resolve().parents[3] / "reports" / "examples" / "study-history.md"
REPETITIONS, QUICK_REPETITIONS, CHUNK = 1000, 60, 10
PEERS_SHARE, WILD_SHARE = 20, 2
"""Of the repetitions, what those rows have that take long: the peer's, and checks among wild runs."""
Row = tuple[str, Callable[[int], Happened], int]


def rows(repetitions: int) -> Iterator[Row]:
    for world in worlds():
        yield world.name, partial(followed, world), repetitions
        if world.name in ("no change", "+10 %", "+5 %"):
            yield f"peer: {world.name}", partial(peer, world), repetitions // PEERS_SHARE
    for noise in CHECKED:
        for repeats in REPEATS:
            wanted = repetitions if noise == "normal" else repetitions // WILD_SHARE
            yield f"check: {noise}, {repeats}", partial(checked, noise, repeats), wanted


def study(repetitions: int) -> dict[str, list[Happened]]:
    known = list(rows(repetitions))
    tasks = [(row, seed) for row in known for seed in range(0, row[2], CHUNK)]
    found: dict[str, list[Happened]] = {name: [] for name, _, _ in known}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for (row, _), happened in zip(tasks, pool.map(_work, tasks), strict=True):
            found[row[0]] += happened
    return found


def _work(task: tuple[Row, int]) -> list[Happened]:
    (_, cell, count), first = task
    return [cell(seed) for seed in range(first, min(first + CHUNK, count))]


def main() -> int:
    quick = os.environ.get("QUICK", "") not in ("", "0")
    repetitions = QUICK_REPETITIONS if quick else REPETITIONS
    found = study(repetitions)
    text = render(found, repetitions)
    print(text)
    if not quick:
        TABLE.write_text(f"# What a history of runs tells (`make study-history`)\n\n{text}\n")
    print(json.dumps({"study": "quick" if quick else "whole", "repetitions": repetitions, **required(found)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
