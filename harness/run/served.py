"""What serves an arm, told so that another moment can be compared with it: is it still the same?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.run.target import Target
from harness.scenario import Scenario
from harness.types import ArmName

TOLD = {
    "url": "its address",
    "server": "the Triton there",
    "metadata": "what it says of its inputs and outputs",
    "config": "its configuration",
    "files": "its files",
}


def served(target: Target) -> dict[str, Any]:
    """By arm. None for one that cannot be asked: behind a front end that speaks no KServe, or not loaded yet."""
    return {name: _of(target, name) for name in target.arms}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each thing that is not what it was, or of which that is not known."""
    found = []
    for name in sorted({*then, *now}):
        old, new = then.get(name), now.get(name)
        if not old or not new:
            found.append(f"what serves the {name} is not known of both moments")
            continue
        for key, words in TOLD.items():
            if old.get(key) != new.get(key):
                was = f": {old.get(key)} then, {new.get(key)} now" if key in ("url", "server") else ""
                found.append(f"{words} ({name}, {new.get('model')} version {new.get('version')}) changed{was}")
    old, new = then.get("baseline") or {}, now.get("baseline") or {}
    if old.get("answered", 0) > new.get("answered", -1):
        found.append(
            f"{new.get('model')} version {new.get('version')} was loaded again: it had answered {old.get('answered')} "
            f"requests then, and has answered {new.get('answered')} now"
        )
    return found


def _of(target: Target, name: Any) -> dict[str, Any] | None:
    arm, control = target.arms[name], target.controls.get(name)
    if control is None:
        return None
    ready = control.loaded(arm.model)
    version = arm.version or max(ready, default=0)
    if version not in ready:
        return None
    about = control.server()
    # Which versions are loaded is not what one of them is.
    config = {key: value for key, value in control.config(arm.model, version).items() if key != "version_policy"}
    metadata = {key: value for key, value in asdict(control.metadata(arm.model, version)).items() if key != "versions"}
    count = control.counts(arm.model).get(version)
    repository = target.repositories[name]
    return {
        "url": arm.url, "model": arm.model, "version": version,
        "server": f"{about['name']} {about['version']}", "metadata": _digest(metadata), "config": _digest(config),
        "files": _files(repository / arm.model / str(version)) if repository else "",
        "answered": count.total if count else 0,
    }  # fmt: skip


def _files(folder: Path) -> str:
    """Names, sizes and times of change: weights are too much to read."""
    found = []
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            about = file.stat()
            found.append((str(file.relative_to(folder)), about.st_size, about.st_mtime_ns))
    return _digest(found)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def described(scenario: Scenario, target: Target, name: ArmName) -> dict[str, Any]:
    """An arm as run.json has it; of an ensemble the steps, too."""
    arm, control = target.arms[name], target.controls.get(name)
    about: dict[str, Any] = {"url": arm.url, "model": arm.model, "version": arm.version}
    if own := scenario.arms[name].devices:
        about["gpus"] = list(own)
    unseen = scenario.deploy or scenario.target.swap or control is None
    steps = () if unseen or control is None else control.steps(arm.model, arm.version)
    return {**about, "steps": [f"{model}/{version}" for model, version in steps]} if steps else about
