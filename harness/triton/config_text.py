"""`config.pbtxt`: the text of `version_policy` is edited, and nothing else.

An override of the versions lives in the server's memory only; a restart reads this file. Printing a parsed
file would lose its comments and layout, so the place is found by a scanner of protobuf's text format, and
the result is proven: before and after are parsed with tritonclient's own protobuf classes, and may differ
in `version_policy` alone.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError, WorldError
from harness.triton.pbtxt import Field, fields, tokens
from harness.triton.protobuf import ModelConfig, json_format, parse, text_of


def read_config(path: Path) -> dict[str, Any]:
    """The JSON form of a model's configuration; {} where there is none (Triton completes it by itself).

    Raises UsageError where the file is not a configuration.
    """
    if not path.exists():
        return {}
    config: dict[str, Any] = json_format.MessageToDict(parse(_read(path), str(path)), preserving_proto_field_name=True)
    return config


def edit_version_policy(text: str, versions: Sequence[int], name: str = "config.pbtxt") -> str:
    """`text` with the version policy `specific {versions}`; comments, also those inside the policy, stay.

    Raises UsageError, naming `name`, if `text` is no model configuration or `versions` is empty.
    """
    wanted = sorted(set(versions))
    if not wanted:
        raise UsageError(f"{name}: a version policy of no versions: Triton refuses it")
    before = parse(text, name)
    found = [field for field in fields(tokens(text)) if field.name == "version_policy"]
    edited = _replace(text, found[0], wanted) if found else _append(text, wanted)
    after = parse(edited, name)
    if list(after.version_policy.specific.versions) != wanted or not _same_but_policy(before, after):
        raise WorldError(f"{name}: its version_policy cannot be edited safely: write {_choice(wanted)} by hand")
    return edited


def persist_versions(config_pbtxt: Path, versions: Sequence[int]) -> tuple[str, str]:
    """Make the file say that exactly `versions` are to be served; atomic. Returns the text before and after.

    Raises UsageError if there is no such file or it is not a configuration, WorldError if it cannot be
    written.
    """
    before, after = _edited(config_pbtxt, versions)
    if after != before:
        write_config(config_pbtxt, after)
    return before, after


def config_diff(config_pbtxt: Path, versions: Sequence[int]) -> str:
    """What `persist_versions` would change, as a unified diff; "" if nothing. For files that others must edit."""
    before, after = (text.splitlines(keepends=True) for text in _edited(config_pbtxt, versions))
    diff = difflib.unified_diff(before, after, f"a/{config_pbtxt.name}", f"b/{config_pbtxt.name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in diff)


def write_config(config_pbtxt: Path, text: str) -> None:
    """Replace the file atomically and durably; its mode stays. A link is followed. Raises WorldError."""
    target = config_pbtxt.resolve()
    temporary = None
    try:
        mode = target.stat().st_mode & 0o7777
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
        temporary = None
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise WorldError(f"{config_pbtxt}: cannot be written: {error.strerror}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def _edited(config_pbtxt: Path, versions: Sequence[int]) -> tuple[str, str]:
    if not config_pbtxt.exists():
        raise UsageError(f"{config_pbtxt}: does not exist, so it cannot say which versions to serve")
    before = _read(config_pbtxt)
    return before, edit_version_policy(before, versions, str(config_pbtxt))


def _read(path: Path) -> str:
    try:
        # Bytes, so that line ends stay as they are.
        return text_of(path.read_bytes(), str(path))
    except OSError as error:
        raise WorldError(f"{path}: cannot be read: {error.strerror}") from error


def _same_but_policy(before: Any, after: Any) -> bool:
    copies = []
    for message in (before, after):
        copy = ModelConfig()
        copy.CopyFrom(message)
        copy.ClearField("version_policy")
        copies.append(copy)
    return bool(copies[0] == copies[1])


def _choice(versions: Sequence[int]) -> str:
    return f"specific {{ versions: [{', '.join(str(version) for version in versions)}] }}"


def _append(text: str, versions: Sequence[int]) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text or text.endswith("\n") else end
    return f"{text}{gap}version_policy: {{ {_choice(versions)} }}{end}"


def _replace(text: str, policy: Field, versions: Sequence[int]) -> str:
    """Swap the choice (latest, all, specific) inside the braces; its comments move in front of it."""
    choices = fields(policy.body)
    if not choices:
        start = policy.body_start
        gap = "" if text[start].isspace() else " "
        return f"{text[:start]} {_choice(versions)}{gap}{text[start:]}"
    choice = choices[0]
    comments = [token.text for token in choice.inside if token.kind == "comment"]
    line_start = text.rfind("\n", 0, choice.start) + 1
    margin = text[line_start : choice.start]
    indent = margin[: len(margin) - len(margin.lstrip())]
    end = "\r\n" if "\r\n" in text else "\n"
    kept = "".join(f"{comment.rstrip()}{end}{indent}" for comment in comments)
    return f"{text[: choice.start]}{kept}{_choice(versions)}{text[choice.end :]}"
