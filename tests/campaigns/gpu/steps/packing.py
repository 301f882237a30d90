"""What comes back from a machine that is gone afterwards: few files, and none of them large.

OUT/results.json   by the name of the step: what came of it
OUT/pages.tar.gz   pages/NAME/..., the pages of runs, and logs/STEP.txt

Both are written anew, each at once and whole, after every step; what was in OUT before stays: a campaign goes on in any
folder that holds these two.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from tests.campaigns.gpu.steps.place import write_json

RESULTS, PAGES = "results.json", "pages.tar.gz"
MOST_FILES, MOST_BYTES = 8, 16 << 20
LOG_BYTES = 100_000
"""Of each step's log, the last."""
ROOM = 0.95
"""Of the most bytes: what is left may be lost on the way."""

Entry = dict[str, Any]


class Brought:
    """`entries`: by step; `state` is done, failed (it ended with an error) or cut (it took too long).

    SystemExit where `out` holds results of the other kind: rehearsed ones and measured ones never lie together.
    """

    def __init__(self, out: Path, shelf: Path, *, rehearsed: bool, most_bytes: int = MOST_BYTES) -> None:
        """`shelf`: a folder of this campaign's own, where the pages lie unpacked."""
        self._out, self._shelf, self._most_bytes = out, shelf, most_bytes
        out.mkdir(parents=True, exist_ok=True)
        shelf.mkdir(parents=True, exist_ok=True)
        self.entries: dict[str, Entry] = read_results(out)
        if any(entry["rehearsed"] != rehearsed for entry in self.entries.values()):
            kind = "measured" if rehearsed else "rehearsed"
            raise SystemExit(f"{out} holds {kind} results: give another folder")
        if (out / PAGES).exists():
            unpack(out / PAGES, shelf)

    def done(self, step: str) -> bool:
        return self.entries.get(step, {}).get("state") == "done"

    def add(self, step: str, entry: Entry, folder: Path) -> None:
        """`folder`: the step's own, see `place`."""
        self.entries[step] = entry
        if (folder / "pages").is_dir():
            shutil.copytree(folder / "pages", self._shelf / "pages", dirs_exist_ok=True)
        log = self._shelf / "logs" / f"{step}.txt"
        log.parent.mkdir(exist_ok=True)
        if (folder / "log.txt").exists():
            log.write_bytes((folder / "log.txt").read_bytes()[-LOG_BYTES:])
        left_out = self._pack()
        entry["left_out"] = left_out
        write_json(self._out / RESULTS, self.entries)

    def _pack(self) -> list[str]:
        """What did not fit: the largest files first, and never what a verdict is read from."""
        files = sorted(path for path in self._shelf.rglob("*") if path.is_file())
        left_out: list[str] = []
        while True:
            size = self._written(files)
            large = [path for path in files if path.name != "verdict.json"]
            if size <= ROOM * self._most_bytes or not large:
                return left_out
            largest = max(large, key=lambda path: path.stat().st_size)
            files.remove(largest)
            left_out.append(str(largest.relative_to(self._shelf)))

    def _written(self, files: list[Path]) -> int:
        fresh = self._out / f".{PAGES}"
        with tarfile.open(fresh, "w:gz", compresslevel=6) as tar:
            for path in files:
                tar.add(path, arcname=str(path.relative_to(self._shelf)), recursive=False)
        size = fresh.stat().st_size
        fresh.replace(self._out / PAGES)
        return size


def read_results(folder: Path) -> dict[str, Entry]:
    path = folder / RESULTS
    found: dict[str, Entry] = json.loads(path.read_text()) if path.exists() else {}
    return found


def unpack(archive: Path, folder: Path) -> None:
    """Files only, and nothing outside of `folder`."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
