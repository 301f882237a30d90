"""What a version consists of: each file's size and SHA-256. Written last, so its presence says "complete"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MANIFEST = "manifest.triton-canary.json"
"""Its name, inside the version's directory (MODEL/2/) and, for what belongs to the model as a whole, in MODEL/.

`{"format": 1, "model": "llm", "version": 2, "files": {"model.plan": {"size": 1, "sha256": "..."}}}`; the model's own
has `"version": null` and lists config.pbtxt and its neighbours.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`files` by path relative to the manifest's directory, "/" between the parts."""

    model: str
    version: int | None
    files: Mapping[str, Entry]
