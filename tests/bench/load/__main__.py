"""Rounds in which every tool has its turn; ends with one JSON line of medians. See `--help`."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from harness.embedded import EmbeddedServer
from tests.bench import record
from tests.bench.load import ours, peers
from tests.bench.load.figures import Figures
from tests.bench.load.server import identity_server

SAME_RATE = 500.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each tool (5)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of load a turn (6)")
    parser.add_argument("--in-flight", type=int, default=8, help="closed loop: requests under way (8)")
    parser.add_argument("--rate", type=float, default=1000.0, help="open loop: requests a second (1000)")
    parser.add_argument("--only", default="", help="peers whose name holds this; otherwise all")
    options = parser.parse_args()
    tools = [peer for peer in peers.PEERS if options.only in peer.name]
    for peer in tools:
        if why := peer.missing():
            _say(f"without {peer.name}: {why}")
    tools = [peer for peer in tools if not peer.missing()]
    with tempfile.TemporaryDirectory() as folder, identity_server(Path(folder)) as server:
        bench = Bench(server, Path(folder), options.in_flight, options.seconds, options.rate)
        for number in range(options.rounds):
            _say(f"round {number + 1} of {options.rounds}")
            bench.round(tools, reverse=number % 2 == 1)
        result = bench.result()
    print(json.dumps(result))


class Bench:
    """Keeps the figures of every round, by tool."""

    def __init__(self, server: EmbeddedServer, folder: Path, in_flight: int, seconds: float, rate: float) -> None:
        self._server, self._folder, self._in_flight, self._seconds, self._rate = (
            server,
            folder,
            in_flight,
            seconds,
            rate,
        )
        self._closed: dict[str, list[Figures]] = defaultdict(list)
        self._open: list[ours.Open] = []
        self._same_rate: list[tuple[float, float]] = []
        self._turn = 0

    def round(self, tools: Sequence[peers.Peer], *, reverse: bool) -> None:
        turns = [("ours http", None), ("ours grpc", None), *((peer.name, peer) for peer in tools)]
        for name, peer in reversed(turns) if reverse else turns:
            try:
                figures = self._of(name, peer)
            except RuntimeError as error:
                _say(f"  {name}: {error}")
                continue
            self._closed[name].append(figures)
            rps = f"{figures.rps:8.0f}/s" if figures.rps else "        ?"
            _say(f"  {name:28s} {rps} {figures.cpu_us:8.1f} us of CPU a request")
        self._open.append(ours.poisson(self._server, "http", self._next(), self._rate, self._seconds))
        _say(f"  ours, Poisson {self._rate:g}/s: {self._open[-1]}")
        if any(peer.name == "perf_analyzer http" for peer in tools):
            self._same_rate.append(self._at_the_same_rate(reverse))

    def result(self) -> dict[str, float]:
        """The medians, and on stderr the table with the spread."""
        median = statistics.median
        result = {
            "http_cpu_us": median(f.cpu_us for f in self._closed["ours http"]),
            "lag_p50_ms": median(o.lag_p50_ms for o in self._open),
            "lag_p99_ms": median(o.lag_p99_ms for o in self._open),
            "cpu_share": median(o.cpu_share for o in self._open),
            "record_us": record.measure(self._next_folder(), 200_000, 500)["record_us"],
        }
        for wire in ("http", "grpc"):
            self._table(wire)
            theirs = self._closed.get(f"perf_analyzer {wire}")
            if theirs:
                mine = self._closed[f"ours {wire}"]
                result[f"{wire}_rps_ratio"] = median(
                    (m.rps or 0) / (t.rps or 1) for m, t in zip(mine, theirs, strict=True)
                )
                result[f"{wire}_cpu_ratio"] = median(m.cpu_us / t.cpu_us for m, t in zip(mine, theirs, strict=True))
        if self._same_rate:
            result["latency_p50_ratio"] = median(mine / theirs for mine, theirs in self._same_rate)
        return {name: round(value, 4) for name, value in sorted(result.items())}

    def _of(self, name: str, peer: peers.Peer | None) -> Figures:
        if peer is None:
            return ours.closed(self._server, name.split()[1], self._next(), self._in_flight, self._seconds)
        return peer.run(self._server, self._next_folder(), self._in_flight, self._seconds)

    def _at_the_same_rate(self, reverse: bool) -> tuple[float, float]:
        """p50 in us of ours and of perf_analyzer, Poisson arrivals over HTTP."""
        folder = self._next_folder()
        load = ["--request-rate-range", f"{SAME_RATE:g}", "--request-distribution", "poisson", "--max-threads", "16"]

        def theirs() -> float:
            return peers.perf_analyzer(self._server, "http", folder, load, self._seconds).p50_us or 0.0

        def mine() -> float:
            return ours.poisson(self._server, "http", folder / "ours", SAME_RATE, self._seconds).p50_us

        pair = (mine(), theirs()) if not reverse else (theirs(), mine())[::-1]
        _say(f"  p50 at {SAME_RATE:g}/s: ours {pair[0]:.0f} us, perf_analyzer {pair[1]:.0f} us")
        return pair

    def _next_folder(self) -> Path:
        folder = self._next()
        folder.mkdir()
        return folder

    def _next(self) -> Path:
        self._turn += 1
        return self._folder / f"turn-{self._turn}"

    def _table(self, wire: str) -> None:
        mine = self._closed[f"ours {wire}"]
        _say(f"{wire}: ours over theirs, median (least to most) of {len(mine)} turns in alternation")
        for name, theirs in self._closed.items():
            if wire != _wire(name) or name.startswith("ours"):
                continue
            pairs = list(zip(mine, theirs, strict=False))
            rps = [(m.rps or 0) / t.rps for m, t in pairs if t.rps]
            cpu = [m.cpu_us / t.cpu_us for m, t in pairs]
            _say(f"  {name:28s} requests/s {_spread(rps)}   CPU a request {_spread(cpu)}")


def _wire(name: str) -> str:
    return "grpc" if name.endswith("grpc") else "http"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):5.2f} ({min(values):.2f} to {max(values):.2f})" if values else "     -"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


main()
