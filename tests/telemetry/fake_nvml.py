"""The fake NVML library (fake_nvml.c), made once a session, and a script that says which cards there are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
PROFILES = Path(__file__).with_name("profiles")


@dataclass(frozen=True)
class FakeNvml:
    """`folder`: where it lies. `script`: the file that it reads again when it changes (fake_nvml.c says what may stand
    in it).
    """

    folder: Path
    script: Path

    @classmethod
    def of(cls, folder: Path, *cards: str, hidden: Sequence[str] = ()) -> FakeNvml:
        """`cards`: as `set` takes them. `hidden`: functions that the library lacks."""
        fake = cls(_library(tuple(hidden)), folder / "nvml.txt")
        fake.set(*cards)
        return fake

    @classmethod
    def here(cls) -> FakeNvml:
        """In a process that has its `environment`."""
        return cls(Path(os.environ["LD_LIBRARY_PATH"]), Path(os.environ["FAKE_NVML"]))

    def set(self, *cards: str, driver: str = "") -> None:
        """A card is a profile's name and, behind it, its own lines (`"a100\\nmemory.used 5e9"`); at once and whole. The
        second card of a profile is another card.
        """
        lines = ["driver.version 570.86.15", driver]
        so_far: Counter[str] = Counter()
        for card in cards:
            profile, _, own = card.partition("\n")
            lines.append(f"gpu {PROFILES / profile}.txt")
            if so_far[profile]:
                lines.append(f"uuid GPU-{profile}-{so_far[profile]}")
            lines.append(own)
            so_far[profile] += 1
        fresh = self.script.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        time.sleep(0.01)  # what happens at the file's time is later than what was before, in the kernel's ticks
        fresh.touch()
        fresh.replace(self.script)
        time.sleep(0.02)  # until the library has looked

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to find it: the loader looks for it when the process begins."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.folder), "FAKE_NVML": str(self.script)}

    def run(self, code: str, *arguments: object) -> Any:
        """What `code` prints as JSON, in a process of its own over the library."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def without_driver(folder: Path) -> FakeNvml:
    """An empty file in the library's place: no library, also on a machine that has a GPU."""
    (folder / "libnvidia-ml.so.1").touch()
    return FakeNvml(folder, folder / "nvml.txt")


@lru_cache
def _library(hidden: tuple[str, ...]) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the fake NVML library cannot be made")
    folder = Path(tempfile.mkdtemp(dir=_folder().name))
    # The linker lets nobody see a local symbol: dlsym finds nothing, as in a driver that does not have it.
    visible = folder / "symbols"
    visible.write_text("{ global: nvml*; local: " + "".join(f"{name}; " for name in hidden) + "*; };\n")
    options = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC", f"-Wl,--version-script={visible}"]
    subprocess.run([compiler, *options, "-o", folder / "libnvidia-ml.so.1", SOURCE], check=True)
    return folder


@lru_cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fake-nvml-")
