"""Observations of operations, made by hand: good ones, to be spoilt one fact at a time."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.judge.loads import multi_model_server, night_batch

Facts = dict[str, Any]


def stamp(number: int) -> Facts:
    return {"inode": number, "mtime_ns": number, "files": 2, "stamp": f"{number:x}"}


def serving(processes: Sequence[str] | None = ("1@1.0",), success: int = 3) -> Facts:
    return {"success": success, "failure": 0, "processes": None if processes is None else list(processes)}


def seen(*names: str, serves: Sequence[str] = (), processes: Sequence[str] | None = ("1@1.0",)) -> Facts:
    """A snapshot of a repository with these versions; `serves` of them, or all."""
    models = sorted({name.partition("/")[0] for name in names})
    return {
        "entries": sorted([*models, *names]),
        "versions": {name: stamp(number) for number, name in enumerate(sorted(names), 1)},
        "models": {model: {"files": 1, "stamp": model} for model in models},
        "serving": {name: serving(processes) for name in (serves or names)},
    }


def sync_round(name: str, before: Facts, after: Facts, **other: Any) -> Facts:
    added = sorted(set(after["versions"]) - set(before["versions"]))
    good = {
        "name": name, "broken": False, "refused": "", "expected": added, "wanted": added, "before": before,
        "after": after, "differences": {version: [] for version in added}, "probes": dict.fromkeys(added, ""),
        "sync": {"added": [], "configs": [], "unchanged": [], "skipped": [], "bytes": 10, "took_s": 0.1},
    }  # fmt: skip
    return {**good, **other}


def repo_sync() -> Facts:
    """Two models arrive, one changes, a third version is broken."""
    none, two, three = seen(), seen("a/1", "b/1"), seen("a/1", "b/1", "b/2")
    broken = sync_round("broken", three, three, broken=True, refused="s3://m: b/3/x has another hash", sync=None)
    rounds = [sync_round("first", none, two), sync_round("change", two, three), broken]
    return {
        "format": 1, "kind": "repo-sync", "finished": True, "demonstration": True,
        "rounds": json.loads(json.dumps(rounds)),  # none of them shares its facts with another
    }  # fmt: skip


def floats(*values: float, name: str = "OUTPUT") -> Facts:
    raw = np.asarray(values, "<f4").tobytes()
    return {
        "name": name, "datatype": "FP32", "shape": [len(values)], "digest": hashlib.sha256(raw).hexdigest(),
        "raw": base64.b64encode(raw).decode(), "sampled": False,
    }  # fmt: skip


def text(words: str) -> Facts:
    return {
        "name": "text_output", "datatype": "BYTES", "shape": [1],
        "digest": hashlib.sha256(words.encode()).hexdigest(), "text": words,
    }  # fmt: skip


def answers(ask: Callable[[int], Facts], probes: int = 8) -> list[Facts]:
    """`ask` is called twice for each probe, with its number."""
    return [{"seed": number, "answers": [[ask(number)], [ask(number)]]} for number in range(probes)]


def exact(number: int) -> Facts:
    return floats(number, number + 0.5)


FILES = {"model.py": {"size": 3, "sha256": "a" * 64}}


def region(name: str, ask: Callable[[int], Facts] = exact, **other: Any) -> Facts:
    good = {
        "name": name, "url": f"grpc://{name}:8001", "error": "", "ready": [1, 2], "files": dict(FILES),
        "answers": answers(ask), "sync": {"bytes": 3, "took_s": 0.1},
    }  # fmt: skip
    return {**good, **other}


def multi_region(*regions: Facts) -> Facts:
    return {
        "format": 1, "kind": "multi-region", "finished": True, "model": "m", "version": 2, "probes": 8,
        "published": {"files": dict(FILES)}, "regions": list(regions or (region("north"), region("south"))),
    }  # fmt: skip


def retire_model(**other: Any) -> Facts:
    steps = [("models.set", "begun"), ("models.set", "done"), ("version.move", "begun"), ("version.move", "done")]
    good = {
        "format": 1, "kind": "retire-model", "finished": True, "model": "m", "version": 1, "then": "archive",
        "refused": "", "before": {"ready": [1, 2], "directory": True}, "after": {"ready": [2], "directory": False},
        "arrivals": {"requests": 0, "window_s": 5.0}, "archived": True, "done": ["x"], "staying": 2,
        "journal": [{"t": "2026-01-01T00:00:00.000+00:00", "action": a, "target": "m/1", "state": s} for a, s in steps],
        "steady": {
            "version": 2, "rate": 50.0, "sent": 500, "failed": 0, "errors": [], "slowest_s": 0.02, "covers": True,
        },
        "counters": None,
    }  # fmt: skip
    return {**good, **other}


GOOD: dict[str, Callable[[], Facts]] = {
    "repo-sync": repo_sync,
    "multi-region": multi_region,
    "retire-model": retire_model,
    "multi-model-server": multi_model_server,
    "night-batch": night_batch,
}
