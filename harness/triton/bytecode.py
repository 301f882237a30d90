"""A trap of the Python backend: versions that it initialises twice."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from harness.triton.config_text import read_config

SOURCE = "model.py"


def will_reinitialise(repository: Path, model: str, versions: Sequence[int]) -> tuple[int, ...]:
    """Those of `versions`, none of them loaded yet, that Triton will initialise once more at the model's next load.

    Python's bytecode is written into a version's directory at its first load, after Triton noted the directory's
    time. At the next load, of whatever version, Triton takes the directory for changed. That does not come about
    where the bytecode is there and current beforehand. Any Python's counts, and the server is taken to be able to
    write there: neither can be seen from here. Of a version that was loaded before nothing can be said. Raises
    UsageError where `config.pbtxt` is no configuration.
    """
    backend = read_config(repository / model / "config.pbtxt").get("backend", "python")
    if backend != "python":
        return ()
    return tuple(version for version in sorted(set(versions)) if not _compiled(repository / model / str(version)))


def _compiled(folder: Path) -> bool:
    source = folder / SOURCE
    if not source.exists():
        return True  # another file's name, or none: nothing to go by
    now = source.stat()
    stamp = struct.pack("<II", int(now.st_mtime) & 0xFFFFFFFF, now.st_size & 0xFFFFFFFF)
    for file in folder.glob("__pycache__/model.*.pyc"):
        # PEP 552: 4 bytes of magic, 4 of flags (0: time and size of the source follow, else its hash).
        head = file.read_bytes()[:16]
        if head[4:8] != bytes(4) or head[8:] == stamp:
            return True
    return False
