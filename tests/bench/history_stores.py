"""Which embedded store keeps the runs of CI jobs that know nothing of each other? An experiment, not a benchmark.

    python -m tests.bench.history_stores [--rounds 5]

Parquet (harness.history), SQLite and, where it is installed, DuckDB, each with three runs in it to begin with:

    overwritten   two jobs restore the same cache, add a run each, and save: the later save replaces the earlier one
    unpacked      the same, but both saves go into one folder, or up to one bucket, file by file
    at once       two processes add 20 runs each to one folder at the same time
    killed        a process that adds is killed (SIGKILL) at a random moment, several times

Told is how many of the runs that were added survive. One line a store and case.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

_PARQUET = """
from tests.history.test_store import run
from harness.history.place import FolderPlace
from harness.history.store import History
def add(folder, number): History(FolderPlace(Path(folder))).add([run(number)], number)
def count(folder): return len(set(History(FolderPlace(Path(folder))).read().table["run"].to_pylist()))
"""
_SQLITE = """
import sqlite3
def connect(folder):
    Path(folder).mkdir(exist_ok=True)
    database = sqlite3.connect(Path(folder) / "history.sqlite", timeout=60)
    database.execute("pragma journal_mode = wal")
    database.execute("create table if not exists run (name primary key, value)")
    return database
def add(folder, number):
    with connect(folder) as database: database.execute("insert or ignore into run values (?, ?)", (number, 0.08))
def count(folder): return connect(folder).execute("select count(*) from run").fetchone()[0]
"""
_DUCKDB = """
import duckdb
def connect(folder):
    Path(folder).mkdir(exist_ok=True)
    database = duckdb.connect(str(Path(folder) / "history.duckdb"))
    database.execute("create table if not exists run (name integer primary key, value double)")
    return database
def add(folder, number):
    with connect(folder) as database: database.execute("insert or ignore into run values (?, ?)", (number, 0.08))
def count(folder):
    with connect(folder) as database: return database.execute("select count(*) from run").fetchone()[0]
"""
_MAIN = """
import sys
from pathlib import Path
{store}
if sys.argv[1] == "count":
    print(count(sys.argv[2]))
else:
    for number in range(int(sys.argv[3]), int(sys.argv[4])):
        try: add(sys.argv[2], number)
        except Exception as error: print("failed", str(error)[:60].replace(chr(10), " "), flush=True)
        else: print("added", flush=True)
"""
STORES = {"parquet": _PARQUET, "sqlite": _SQLITE, "duckdb": _DUCKDB}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5, help="of the killed process")
    args = options.parse_args()
    for store in STORES:
        if store == "duckdb" and importlib.util.find_spec("duckdb") is None:
            print("duckdb       is not installed: left out")
            continue
        cases: dict[str, Callable[[str, Path], str]] = {
            "overwritten": _overwritten, "unpacked": _unpacked, "at once": _at_once,
            "killed": lambda store, folder: _killed(store, folder, args.rounds),
        }  # fmt: skip
        for case, carry_out in cases.items():
            folder = Path(tempfile.mkdtemp(prefix="stores-"))
            try:
                print(f"{store:8} {case:12} {carry_out(store, folder)}", flush=True)
            finally:
                shutil.rmtree(folder)


def _start(store: str, *args: object) -> subprocess.Popen[str]:
    code = _MAIN.format(store=STORES[store])
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True)


def _do(store: str, *args: object) -> str:
    return _start(store, *args).communicate()[0]


def _two_jobs(store: str, folder: Path) -> tuple[Path, Path]:
    """Both begin with runs 0 to 2; the one adds 3, the other 4."""
    _do(store, "add", folder / "cache", 0, 3)
    for job, number in (("a", 3), ("b", 4)):
        shutil.copytree(folder / "cache", folder / job)
        _do(store, "add", folder / job, number, number + 1)
    return folder / "a", folder / "b"


def _overwritten(store: str, folder: Path) -> str:
    _, later = _two_jobs(store, folder)
    return f"{_do(store, 'count', later).strip()} of 5"


def _unpacked(store: str, folder: Path) -> str:
    for job in _two_jobs(store, folder):
        shutil.copytree(job, folder / "merged", dirs_exist_ok=True)
    return f"{_do(store, 'count', folder / 'merged').strip()} of 5"


def _at_once(store: str, folder: Path) -> str:
    both = [_start(store, "add", folder / "cache", begin, begin + 20) for begin in (0, 20)]
    told = [process.communicate()[0] for process in both]
    failed = sorted({line for text in told for line in text.splitlines() if line.startswith("failed")})
    return f"{_do(store, 'count', folder / 'cache').strip()} of 40{f' ({failed[0]})' if failed else ''}"


def _killed(store: str, folder: Path, rounds: int) -> str:
    reported = 0
    for number in range(rounds):
        process = _start(store, "add", folder / "cache", 1000 * number, 1000 * number + 1000)
        assert process.stdout is not None
        for _ in range(random.randint(1, 40)):
            reported += process.stdout.readline() == "added\n"
        process.send_signal(signal.SIGKILL)
        reported += process.stdout.read().count("added\n")
        process.wait()
        process.stdout.close()
    found = _do(store, "count", folder / "cache").strip()
    return f"{found} there, of {reported} that were reported, after {rounds} kills"


if __name__ == "__main__":
    main()
