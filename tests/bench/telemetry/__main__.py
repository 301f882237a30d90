"""Reads one card of the fake NVML, core fields, by the harness's own process and by peers at the same time; ends with
one JSON line. CPU is the kernel's count of each process after its first poll; of how late polls began, and of the gaps
between them, p50, p99 and max. See `--help`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.telemetry.readers import Figures, Ours, Peer, peers
from tests.telemetry.fake_nvml import FakeNvml


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.telemetry", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of readings (60)")
    parser.add_argument("--rate", type=float, default=100.0, help="polls a second (100)")
    parser.add_argument("--card", default="h100", help="a profile of tests/telemetry/profiles (h100)")
    parser.add_argument("--alone", action="store_true", help="no peers beside it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # PCIe throughput takes 20 ms each way, as on a real card.
        fake = FakeNvml.of(folder, f"{options.card}\npcie.takes 0.02")
        found = _measured(fake, folder, options.seconds, 1 / options.rate, alone=options.alone)
    for name, figures in found.items():
        print(f"{name:34s} {figures}", file=sys.stderr)
    ours, others = found["ours"], {name: each for name, each in found.items() if name != "ours"}
    for name, each in others.items():
        print(f"  ours to {name}: {_ratios(ours, each)}", file=sys.stderr)
    print(json.dumps({name: each.about for name, each in found.items()} | {"load": os.getloadavg()[0]}))


def _measured(fake: FakeNvml, folder: Path, seconds: float, interval_s: float, *, alone: bool) -> dict[str, Figures]:
    readers: dict[str, Ours | Peer] = {"ours": Ours(fake, folder / "readings.arrow", interval_s)}
    if not alone:
        readers |= {name: Peer(fake, code, folder / f"{name}.csv", interval_s) for name, code in peers().items()}
    for reader in readers.values():
        reader.begin()
    time.sleep(seconds)
    return {name: reader.end() for name, reader in readers.items()}


def _ratios(ours: Figures, other: Figures) -> str:
    late = ours.late["p99"] / max(other.late["p99"], 1e-3)
    spread = (ours.gap["p99"] - ours.gap["p50"]) / max(other.gap["p99"] - other.gap["p50"], 1e-3)
    cpu = ours.cpu_percent / other.cpu_percent
    return f"{cpu:.2f} of the CPU, {late:.4f} of the p99 late, {spread:.2f} of the gaps' p99 beyond their median"


if __name__ == "__main__":
    main()
