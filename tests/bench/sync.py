"""Throughput of `sync` from a folder against `cp -r` with `sha256sum`, both ending on the disk.

    python -m tests.bench.sync [--megabytes 200] [--rounds 5] [--workers 4]

Both peers copy the same published versions within one filesystem, hash what they copied and have it written out
(fsync; `sync -f`), in alternating order. Prints seconds and the ratio of each round, and the median ratio; above 1,
sync is slower.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.store import FolderStore, sync
from tests.store.folders import noise, put_version

FILES = 4


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--megabytes", type=int, default=200)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--workers", type=int, default=4)
    options.add_argument("--folder", type=Path, help="where to work; its filesystem is what is measured")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        size = chosen.megabytes * 1_000_000 // FILES
        put_version(folder / "store", "llm", 1, {f"{n}.plan": noise(size, n) for n in range(FILES)})
        ratios = [_round(folder, number, chosen.workers) for number in range(chosen.rounds)]
    print(f"median ratio {statistics.median(ratios):.2f} ({chosen.megabytes} MB in {FILES} files)")


def _round(folder: Path, number: int, workers: int) -> float:
    peers: list[tuple[str, Callable[[Path], object]]] = [
        ("sync", lambda to: sync(FolderStore(str(folder / "store")), to, workers=workers)),
        ("cp -r, sha256sum, sync -f", lambda to: _copy(folder / "store/llm", to)),
    ]
    took_s = {}
    for name, peer in peers if number % 2 else peers[::-1]:
        to = folder / "to/models"
        to.mkdir(parents=True)
        begun = time.perf_counter()
        peer(to)
        took_s[name] = time.perf_counter() - begun
        shutil.rmtree(folder / "to")
    ours_s, theirs_s = (took_s[name] for name, _ in peers)
    print(f"round {number + 1}: " + ", ".join(f"{name} {s:.2f} s" for name, s in took_s.items()), end="")
    print(f", ratio {ours_s / theirs_s:.2f}")
    return ours_s / theirs_s


def _copy(source: Path, to: Path) -> None:
    subprocess.run(["cp", "-r", source, to], check=True)
    files = [path for path in (to / source.name).rglob("*") if path.is_file()]
    subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["sync", "-f", to], check=True)


if __name__ == "__main__":
    main()
