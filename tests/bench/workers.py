"""What dividing a closed loop among workers costs: CPU of the workers per request with 1, 2 and 4 of them.

The same number in flight, against a real Triton with an identity model, in alternation (the order turns around every
round). The CPU is that of whole processes, by the kernel's count, between the stage's begin and its end. Ends with one
JSON line: medians, and the ratios to one worker (medians over the rounds), with least and most.

    python -m tests.bench.workers --rounds 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.embedded import EmbeddedServer
from harness.load import Generator, LoadSpec
from harness.recording import read_table
from harness.types import Arm, StagePlan
from tests.bench.load.server import MODEL, identity_server

CREWS = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Turn:
    """CPU in us a request: of all workers, and of the master beside them (0 where there is none)."""

    rps: float
    workers_us: float
    master_us: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each number of workers (5)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of load a turn (6)")
    parser.add_argument("--in-flight", type=int, default=8, help="requests under way, of all workers together (8)")
    parser.add_argument("--wire", choices=["http", "grpc"], default="http", help="(http)")
    options = parser.parse_args()
    turns: dict[int, list[Turn]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary, identity_server(Path(temporary)) as server:
        for number in range(options.rounds):
            for workers in CREWS if number % 2 == 0 else reversed(CREWS):
                folder = Path(temporary) / f"{number}-{workers}"
                turn = measure(server, folder, options.wire, workers, options.in_flight, options.seconds)
                turns[workers].append(turn)
                _say(f"round {number + 1}, {workers} workers: {turn}")
    print(json.dumps(summary(turns)))


def measure(server: EmbeddedServer, folder: Path, wire: str, workers: int, in_flight: int, seconds: float) -> Turn:
    folder.mkdir()
    url = server.http_url if wire == "http" else server.grpc_url
    spec = LoadSpec(
        arms={"baseline": Arm(url, MODEL.name, 1)}, models={"baseline": MODEL}, seed=1, prompts=(), max_tokens=1,
        timeout_s=30.0, logprobs_k=0, chunks=False, t0_ns=time.monotonic_ns(), folder=folder,
    )  # fmt: skip
    with Generator(spec, folder / "load.log", workers=workers) as generator:
        generator.start()
        speaker = psutil.Process(generator.pid)
        crew = [psutil.Process(record["pid"]) for record in generator.roster.records]
        generator.stage(StagePlan(0, "split", "closed", seconds, 0.0, in_flight=in_flight))
        _await(generator, "stage_begun")
        before = _cpu_s([speaker]), _cpu_s(crew)
        _await(generator, "stage_done")
        spoken_s, sent_s = _cpu_s([speaker]) - before[0], _cpu_s(crew) - before[1]
        generator.stop()
    table = read_table(folder, "samples")
    assert table is not None
    assert set(table["status"].to_pylist()) == {"ok"}
    assert len(set(table["worker"].to_pylist())) == workers
    each = 1e6 / len(table)
    # A single worker speaks for itself.
    worked_s, master_s = (sent_s, spoken_s) if crew else (spoken_s, 0.0)
    return Turn(round(len(table) / seconds, 1), round(worked_s * each, 2), round(master_s * each, 2))


def summary(turns: dict[int, list[Turn]]) -> dict[str, float | list[float]]:
    result: dict[str, float | list[float]] = {}
    for workers in CREWS:
        mine = turns[workers]
        result[f"cpu_us_{workers}"] = _median([turn.workers_us for turn in mine])
        result[f"rps_{workers}"] = _median([turn.rps for turn in mine])
        if workers > 1:
            result[f"master_us_{workers}"] = _median([turn.master_us for turn in mine])
            ratios = [turn.workers_us / one.workers_us for turn, one in zip(mine, turns[1], strict=True)]
            result[f"ratio_{workers}"] = _median(ratios)
            result[f"ratio_{workers}_spread"] = [round(min(ratios), 3), round(max(ratios), 3)]
    return result


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 3)


def _await(generator: Generator, name: str) -> None:
    while not any(event["event"] == name for event in generator.events(1.0)):
        pass


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
