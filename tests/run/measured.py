"""Runs on a machine that other tests keep busy: it cannot always send what it should, and the verdict says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from tests.run.conftest import only_folder

T = TypeVar("T")

OURS = ("validity.lag", "validity.generator", "validity.rate", "validity.saturation")
OF_DRAWS = (*OURS, "validity.share")
"""And where a router draws lots of its own: of a thousand stages that it splits, one looks like another split."""
TRIES = 4


def measured(run: Callable[[Path], T], out: Path, ours: Collection[str] = OURS) -> T:
    """What `run` gives, which is told where to record. Once more, three times at most, where the verdict is that this
    machine could not measure: then everything is as before.
    """
    for number in range(TRIES):
        given = run(out / str(number))
        if not _busy(out / str(number), ours):
            break
    return given


def last_folder(out: Path) -> Path:
    """Of the last try."""
    return only_folder(max((path for path in out.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name)))


def _busy(out: Path, ours: Collection[str]) -> bool:
    """Whether the run has ended, with nothing else to say than one of these faults."""
    for file in out.glob("*/verdict.json"):
        verdict, meta = json.loads(file.read_text()), json.loads(file.with_name("run.json").read_text())
        if verdict["verdict"] == "inconclusive" and meta.get("outcome") == {"error": "", "not_put_back": []}:
            return any(one["metric"] in ours and one["outcome"] != "pass" for one in verdict["findings"])
    return False
