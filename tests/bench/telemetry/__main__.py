"""Reads one card of the fake NVML, core fields, by the harness's own process: alone, then with peers beside it; ends
with one JSON line. CPU is the kernel's count of each process after its first poll; of how late polls began, and of the
gaps between them, p50, p99 and max. Before it the machine's own lateness: of a process that only sleeps. See `--help`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.telemetry.readers import Figures, Ours, Peer, machine, peers
from tests.telemetry.fake_nvml import FakeNvml


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.telemetry", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of readings, each time (60)")
    parser.add_argument("--rate", type=float, default=100.0, help="polls a second (100)")
    parser.add_argument("--card", default="h100", help="a profile of tests/telemetry/profiles (h100)")
    parser.add_argument("--alone", action="store_true", help="no peers beside it")
    options = parser.parse_args()
    interval_s = 1 / options.rate
    found = {"the clock alone": {"machine": machine(interval_s, min(options.seconds, 20.0))}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # PCIe throughput takes 20 ms each way, as on a real card.
        fake = FakeNvml.of(folder, f"{options.card}\npcie.takes 0.02")
        found["ours alone"] = _measured(fake, folder / "alone", options.seconds, interval_s, alone=True)
        if not options.alone:
            found["beside peers"] = _measured(fake, folder / "beside", options.seconds, interval_s, alone=False)
    for part, readers in found.items():
        for name, figures in readers.items():
            print(f"{part:16s} {name:32s} {figures}", file=sys.stderr)
    beside = dict(found.get("beside peers", {}))
    ours = beside.pop("ours", None)
    for name, each in beside.items():
        print(f"  ours to {name}: {_ratios(ours, each)}", file=sys.stderr)
    about = {part: {name: each.about for name, each in readers.items()} for part, readers in found.items()}
    print(json.dumps(about | {"cores": os.cpu_count(), "load": os.getloadavg()}))


def _measured(fake: FakeNvml, folder: Path, seconds: float, interval_s: float, *, alone: bool) -> dict[str, Figures]:
    folder.mkdir()
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
