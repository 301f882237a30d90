"""The last calibration of each target and model, kept until a run asks how trustworthy its judge is here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import RecordingError
from harness.files import atomic_write
from harness.run.state import state_home


def name_of(meta: Mapping[str, Any]) -> str:
    """Target and model, from run.json: what a calibration is filed under."""
    scenario = meta.get("scenario", {})
    baseline, target = scenario.get("baseline") or {}, scenario.get("target") or {}
    where = "embedded" if target.get("server") else baseline.get("url") or target.get("url")
    parts = [where, baseline.get("model") or scenario.get("name")]
    name = "-".join(re.sub(r"[^A-Za-z0-9._-]+", "-", str(part)).strip("-.") for part in parts if part)
    return name[:150] or "recording"


def keep(calibration: Mapping[str, Any], out: Path | None) -> Path:
    """Write it to the state folder, and to `out`. Returns the former. Raises RecordingError."""
    content = json.dumps(calibration, indent=1, sort_keys=True).encode() + b"\n"
    path = _file(calibration["of"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"{path.parent}: cannot be made: {error.strerror}") from error
    for place in (path, out):
        if place is not None:
            atomic_write(place, content)
    return path


def last_calibration(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """The last one of the target and model of a run.json; None without one, or where it cannot be read."""
    try:
        known = json.loads(_file(name_of(meta)).read_bytes())
        _ = int(known["verdicts"]["rollback"]["of"]), known["how"], known["gates"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(known)


def _file(name: str) -> Path:
    return state_home() / "calibrations" / f"{name}.json"
