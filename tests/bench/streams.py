"""How well hundreds of gRPC streams are stamped: each chunk carries the clock of who sent it, on the same machine.

    python -m tests.bench.streams [--streams 500] [--rate 20] [--seconds 10] [--instances 3] [--only triton|frames]

Two senders, one after the other: the real Triton with a decoupled Python model (`tests/load/engine/ticker`; the clock
is read in the model, so that Triton's own way to the wire counts as error, too), and a process that writes the same
messages as HTTP/2 frames itself, which costs so little that what is left is the client's error. Prints one JSON line:
for each the chunks missing, the error of the stamps, the longest gap of any stream, how much longer it was than
the sender's own gap (starvation), chunks a second, and the generator's share of a core. On a machine that others use,
too, `chrt -f 1` in front keeps them out of the figures.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from harness.embedded import EmbeddedServer
from harness.load.engine.exchange import Exchange
from harness.load.engine.grpc import GrpcSender
from harness.load.engine.loop import Loop
from harness.load.template import request_id
from harness.tensors import Tensor, encode
from harness.types import Arm
from tests.bench.frames import serve
from tests.load.engine.ticker import TICKER, write_ticker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--rate", type=int, default=20, help="chunks a second of each stream")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--instances", type=int, default=3, help="of the model in Triton")
    parser.add_argument("--connections", type=int)
    parser.add_argument("--only", choices=("triton", "frames"))
    given = parser.parse_args()
    found: dict[str, Any] = {"streams": given.streams, "rate": given.rate}
    if given.only != "triton":
        found["frames"] = of_frames(given)
    if given.only != "frames":
        found["triton"] = of_triton(given)
    print(json.dumps(found))


def of_triton(given: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="bench-streams-") as name:
        write_ticker(Path(name) / "models", given.instances)
        with EmbeddedServer(Path(name) / "models", Path(name) / "log") as server:
            server.start({"ticker": [1]})
            return measure(server.grpc_url, given)


def of_frames(given: argparse.Namespace) -> dict[str, float]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        return measure(f"grpc://127.0.0.1:{ours.recv()}", given)
    finally:
        process.terminate()
        process.join()


def measure(url: str, given: argparse.Namespace) -> dict[str, float]:
    t0_ns = time.monotonic_ns()
    loop = Loop(t0_ns)
    sender = GrpcSender(loop, Arm(url, TICKER.name, 1), TICKER, given.connections)
    chunks, period_us = given.rate * given.seconds, 1_000_000 // given.rate
    values = {"COUNT": chunks, "PERIOD_US": period_us}
    template = sender.prepare([Tensor(name, "INT32", (1,), encode("INT32", [n])) for name, n in values.items()])
    done: list[Exchange] = []

    def on_done(exchange: Exchange) -> None:
        done.append(exchange)
        if len(done) == given.streams:
            loop.stop()

    def send(number: int) -> None:
        sender.send(template, request_id(number, "baseline").encode(), b"", Exchange(on_done))

    sender.connect(given.connections or 1, loop.stop)
    loop.run()
    # What was there before is not looked through while the clock runs.
    gc.collect()
    gc.freeze()
    begin_ns, cpu = loop.now_ns(), cpu_s()
    for number in range(given.streams):
        # A second for all of them, so that their chunks are spread as those of users are.
        loop.at(begin_ns + number * 1_000_000_000 // given.streams, send, number)
    loop.run()
    cpu, took_ns = cpu_s() - cpu, loop.now_ns() - begin_ns
    sender.close()
    loop.close()
    gc.unfreeze()
    return {
        **read([one.frames for one in done], t0_ns, chunks),
        "failed": sum(one.failure is not None for one in done),
        "chunks_per_s": round(len(done) * chunks / took_ns * 1e9),
        "cores": round(cpu / took_ns * 1e9, 3),
        "stalls": loop.stalls,
    }


def read(streams: list[list[tuple[int, bytes]]], t0_ns: int, chunks: int) -> dict[str, float]:
    errors, gaps, excess, missing = [], [], [], 0
    for frames in streams:
        times = []
        for at, raw in frames:
            response = service_pb2.ModelStreamInferResponse.FromString(raw).infer_response
            if response.raw_output_contents:
                times.append((at, int(np.frombuffer(response.raw_output_contents[0], np.int64)[0]) - t0_ns))
        missing += chunks - len(times)
        arrived, sent = np.array(times, np.int64).T
        errors.append(arrived - sent)
        gaps.append(np.diff(arrived).max())
        excess.append((np.diff(arrived) - np.diff(sent)).max())
    error = np.concatenate(errors) / 1e6
    return {
        "missing": missing,
        "error_p50_ms": round(float(np.quantile(error, 0.5)), 3),
        "error_p99_ms": round(float(np.quantile(error, 0.99)), 3),
        "error_max_ms": round(float(error.max()), 3),
        "gap_max_ms": round(float(max(gaps)) / 1e6, 3),
        "gap_excess_max_ms": round(float(max(excess)) / 1e6, 3),
    }


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
