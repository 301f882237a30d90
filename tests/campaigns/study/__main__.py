"""Runs what is missing of the study, renews its tables in docs/judge.md, and ends with a JSON line of the worst cells.

`QUICK=1`: 100 repetitions a row instead of 4,000, kept apart, and no table is renewed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.campaigns.study.cells import Happened, Row, rows
from tests.campaigns.study.tables import Rates, render, worst

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "judge.md"
BEGIN, END = "<!-- make study -->", "<!-- until here -->"
REPETITIONS, QUICK_REPETITIONS, CHUNK, QUICK_CHUNK = 4000, 100, 100, 10
# What the results depend on: with other code they are made anew.
CODE = ("harness/judge/statistics", "harness/judge/times", "harness/judge/errors", "tests/campaigns/study")


def main() -> int:
    quick = os.environ.get("QUICK", "") not in ("", "0")
    wanted, chunk = (QUICK_REPETITIONS, QUICK_CHUNK) if quick else (REPETITIONS, CHUNK)
    folder = ROOT / "reports" / "study" / f"{'quick-' if quick else ''}{_code()}"
    folder.mkdir(parents=True, exist_ok=True)
    known = {row.name: row for row in rows()}
    missing = [
        (name, seed, min(chunk, wanted - seed), folder)
        for seed in range(0, wanted, chunk)
        for name in known
        if not _path(folder, name, seed).exists()
    ]
    begun = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for number, name in enumerate(pool.map(_work, missing), 1):
            left_s = (time.monotonic() - begun) / number * (len(missing) - number)
            print(f"{number} of {len(missing)}, about {left_s / 60:.0f} min left: {name}", file=sys.stderr)
    found = {name: Rates.of(_read(folder, name, wanted, chunk)) for name in known}
    text = render(found)
    print(text)
    if not quick:
        _renew(text)
    print(json.dumps({"study": "quick" if quick else "whole", "repetitions": wanted, **worst(found)}))
    return 0


def _code() -> str:
    """A name for the code that makes the results."""
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((ROOT / folder).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _path(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name.replace(' ', '-').replace(':', '').replace(',', '').replace('%', 'pct')}.{seed}.json"


def _work(task: tuple[str, int, int, Path]) -> str:
    name, seed, count, folder = task
    row: Row = next(row for row in rows() if row.name == name)
    path = _path(folder, name, seed)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps([row.cell(number) for number in range(seed, seed + count)]))
    temporary.rename(path)
    return name


def _read(folder: Path, name: str, wanted: int, chunk: int) -> list[Happened]:
    found: list[Any] = []
    for seed in range(0, wanted, chunk):
        found += json.loads(_path(folder, name, seed).read_text())
    return found


def _renew(text: str) -> None:
    document = DOCUMENT.read_text()
    before, after = document.split(BEGIN)[0], document.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
