"""Where a step's process works, what it leaves there, and how it begins.

FOLDER/found.json   {"done", "found"}: written whenever there is something to keep, so that a step that is cut leaves
                    what it had
FOLDER/pages/NAME/  the files of a run that are worth keeping
FOLDER/log.txt      what it said
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaigns.examples import KEPT, scrubbed

ROOT = Path(__file__).resolve().parents[4]
FOUND = "found.json"
Found = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """`rehearsed`: on a CPU, with small models and small counts."""

    name: str
    folder: Path
    rehearsed: bool

    @property
    def device(self) -> str:
        """PyTorch's name of what is measured."""
        return "cpu" if self.rehearsed else "cuda:0"

    def save(self, found: Found, *, done: bool = False) -> None:
        write_json(self.folder / FOUND, {"done": done, "found": found})

    def keep(self, run: Path, name: str) -> None:
        """The pages of a run's folder; they say nothing of where it lay, nor which one of its kind the GPU is."""
        target = self.folder / "pages" / name
        target.mkdir(parents=True, exist_ok=True)
        for file in KEPT:
            if (run / file).exists():
                text = scrubbed((run / file).read_text(), run.name, self.folder, ROOT)
                (target / file).write_text(re.sub(r"GPU-[0-9a-f]{8}-[0-9a-f-]{27}", "GPU-0", text))


def main(measure: Callable[[Place], Found]) -> None:
    """Of a step's module. SystemExit in one line where there is no GPU, and it is no rehearsal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    place = Place(options.name, options.folder.absolute(), options.rehearse)
    if not place.rehearsed and (reason := _no_gpu()):
        raise SystemExit(f"{place.name} needs a GPU: {reason}")
    place.save(measure(place), done=True)


def write_json(path: Path, value: Any) -> None:
    """At once and whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(value, indent=1) + "\n")
    fresh.replace(path)


def machine() -> Found:
    """Hardware and software that results are told with; nothing that names this one machine among its like."""
    from importlib import metadata

    from harness.telemetry import hardware

    found = hardware()
    for gpu in found["gpus"]:
        gpu.pop("uuid", None)
        gpu.pop("index", None)
    packages = ("torch", "triton", "numpy", "nvidia-pytriton", "nvidia-ml-py", "tritonclient")
    found["software"] = {name: version for name in packages if (version := _version(metadata, name))}
    return found


def _version(metadata: Any, package: str) -> str:
    try:
        return str(metadata.version(package))
    except metadata.PackageNotFoundError:
        return ""


def _no_gpu() -> str:
    """At no cost. Who starts models asks the harness itself, which asks PyTorch."""
    from harness.embedded.gpu import NODE

    return "" if NODE.exists() else f"{NODE} is missing"
