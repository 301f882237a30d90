"""What names in a store may be: nothing that a store says can lead out of the folder that it is written to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import StoreError

VERSION = re.compile(r"[1-9][0-9]{0,17}")
LONGEST_PART = 255


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key belongs: `llm/2/model.plan` is `model.plan` of version 2 of llm; version None is the model's own."""

    model: str
    version: int | None
    path: str


def check_path(path: str, where: str) -> tuple[str, ...]:
    """The parts of a relative path. StoreError for anything that is not a plain one."""
    parts = tuple(path.split("/"))
    reason = next(filter(None, map(_objection, parts)), "")
    if path.startswith("/"):
        reason = "an absolute path"
    if reason:
        raise StoreError(f"{where}: the name {path!a} is refused: {reason}")
    return parts


def _objection(part: str) -> str:
    if part == "":
        return "an empty part"
    if part in (".", ".."):
        return f"a part {part!r}"
    if "\\" in part:
        return "a backslash"
    if not part.isprintable():  # control characters, broken encodings, marks that turn the direction of text
        return "a character that cannot be shown"
    if len(part.encode()) > LONGEST_PART:
        return f"a part of more than {LONGEST_PART} bytes"
    return ""


def check_tree(paths: Iterable[str], where: str) -> None:
    """No path is a file and a folder at once, as an object store allows."""
    known = set(paths)
    for path in known:
        head = path
        while "/" in head:
            head = head.rpartition("/")[0]
            if head in known:
                raise StoreError(f"{where}: {head} is a file, and a folder of {path}")


def place_of(key: str, where: str) -> Place | None:
    """Where `key` belongs; None for what lies beside the models (a README, a dot folder). StoreError for a bad name."""
    parts = check_path(key, where)
    if len(parts) == 1 or parts[0].startswith("."):
        return None
    model, second = parts[:2]
    if len(parts) == 2 and second.isdigit():
        raise StoreError(f"{where}: {key} is refused: a file in the place of a version")
    if len(parts) == 2:
        return Place(model, None, second)
    if VERSION.fullmatch(second):
        return Place(model, int(second), "/".join(parts[2:]))
    if second.isdigit():
        raise StoreError(f"{where}: {model}/{second} is refused: a version counts from 1, without leading zeros")
    return Place(model, None, "/".join(parts[1:]))
