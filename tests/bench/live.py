"""Whether a browser on the page of a run under way disturbs the run: `python -m tests.bench.live [runs] [seconds]`.

Runs of the tiny model on an embedded Triton, with a reader of the live page and without, in turns. One line of JSON:
p50 and p99 of the baseline's response time of each run (ms), and the ratio of the medians, with to without.
"""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow.compute as pc

from harness.recording import read_table
from tests.run.conftest import CANARY, SCENARIO, only_folder


def read(address: str) -> int:
    """As a browser does, to the end; how many pages came."""
    connection, tag, pages = http.client.HTTPConnection(urlsplit(address).netloc, timeout=600), "", 0
    while True:
        connection.request("GET", "/", headers={"If-None-Match": tag} if tag else {})
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            tag, pages = answer.headers["ETag"], pages + 1
        if answer.headers["X-Final"]:
            connection.close()
            return pages


def measure(folder: Path, seconds: int, *, live: bool) -> tuple[float, float, int]:
    """p50 and p99 in ms, and the pages that were drawn."""
    scenario = folder / "tiny-canary.yaml"
    head = SCENARIO.partition("stages:")[0]
    scenario.write_text(f"{head}stages:\n  - {{mode: paired, rate: 20/s, for: {seconds}s}}\n")
    command = [str(CANARY), "run", str(scenario), "--out", str(folder / "out"), *(["--live"] if live else [])]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr
        pages = read(run.stderr.readline().removeprefix("live: ").strip()) if live else 0
        run.communicate()
    samples = read_table(only_folder(folder / "out"), "samples")
    assert samples is not None
    mine = samples.filter(pc.and_(pc.equal(samples["arm"], "baseline"), pc.equal(samples["stage"], 0)))
    times = (mine["done_ns"].to_numpy() - mine["due_ns"].to_numpy()) / 1e6
    p50, p99 = np.quantile(times, (0.5, 0.99))
    return round(float(p50), 3), round(float(p99), 3), pages


def main(runs: int = 3, seconds: int = 20) -> None:
    found: dict[str, list[tuple[float, float, int]]] = {"with": [], "without": []}
    for _ in range(runs):
        for name in found:
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(measure(Path(folder), seconds, live=name == "with"))
                print(name, *found[name][-1], file=sys.stderr, flush=True)
    middle = {name: [statistics.median(one[k] for one in rows) for k in (0, 1)] for name, rows in found.items()}
    ratios = [round(a / b, 3) for a, b in zip(middle["with"], middle["without"], strict=True)]
    print(json.dumps({**found, "p50_ratio": ratios[0], "p99_ratio": ratios[1]}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
