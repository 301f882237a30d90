"""Recordings of other tools as samples: AIPerf, perf_analyzer, k6, and Locust as far as it keeps requests apart.

A file is recognised by what is in it, not by its name. Each format is one module with `TOOL`, `recognises(head)` and
`read(path)`. What a format does not say stays unknown; nothing is filled in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from harness.errors import UsageError
from harness.recording.importers import (
    aiperf,
    k6,
    locust_history,
    locust_requests,
    own,
    perf_analyzer,
    summaries,
)
from harness.recording.importers.align import align, names_both
from harness.recording.importers.run import Run


class Format(Protocol):
    TOOL: str

    def recognises(self, head: bytes) -> bool: ...

    def read(self, path: Path) -> Run: ...


FORMATS: tuple[Format, ...] = (own, aiperf, perf_analyzer, k6, locust_history, locust_requests)
KINDS = (
    "a samples.parquet, AIPerf's profile_export.jsonl, perf_analyzer's --profile-export-file, k6's --out csv, "
    "Locust's *_stats_history.csv (errors only), or a CSV with a row a request, timeStamp,elapsed,label,..."
)
_HEAD = 1 << 16


def read(path: Path) -> Run:
    """One file of any format. UsageError where it is of none, or damaged: one line with file, and line or column."""
    if not path.is_file():
        raise UsageError(f"{path}: {'is a folder, expected a file' if path.is_dir() else 'no such file'}")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    for kind in FORMATS:
        if kind.recognises(head):
            return kind.read(path)
    raise UsageError(f"{path}: {summaries.why(head) or f'is of no known kind, expected {KINDS}'}")


def both_arms(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Samples and meta of one file in which something tells the arms apart."""
    run = read(path)
    if not names_both(run.samples):
        raise UsageError(
            f"{path}: {run.tool}: nothing in it tells two arms apart (the words baseline and candidate in k6's tags, "
            "scenario or name, or in Locust's name): give two files, --baseline and --candidate"
        )
    return align((path, run), (path, run))


def two_runs(baseline: Path, candidate: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Samples and meta of two files, one an arm. Of a file with both arms the wanted one is taken, else all of it."""
    first = read(baseline)
    if not (candidate.exists() and baseline.samefile(candidate)):
        return align((baseline, first), (candidate, read(candidate)))
    if not names_both(first.samples):
        raise UsageError(f"{baseline}: is given for both arms; a run compared with itself says nothing")
    return align((baseline, first), (candidate, first))
