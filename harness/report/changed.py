"""What differs between the two builds of a checkout, for every format: from `git` in run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.report import words


@dataclass(frozen=True)
class Changed:
    """Text as it is, not escaped. `between`: base and head in a sentence. `files`: name, and size before and after;
    `values` of config.pbtxt: file, key, before, after; `commits`: short name and subject. `notes`: what else to know.
    """

    between: str
    files: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, str, str, str], ...]
    commits: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Changed | None:
        """None for a run that is not of a checkout."""
        git = meta.get("git")
        if not isinstance(git, Mapping) or "changed" not in git:
            return None
        base, head = str(git.get("base", ""))[:7], str(git.get("head", ""))[:7]
        ref = str(git.get("ref", ""))
        ref = "" if not ref or ref.startswith(base) else f" ({ref})"
        dirty = ", with changes that are not committed" if git.get("dirty") else ""
        files = tuple((str(file["path"]), _sizes(file["before"], file["after"])) for file in git["changed"])
        values = tuple(
            (str(one["file"]), str(one["key"]), str(one["before"]) or words.NONE, str(one["after"]) or words.NONE)
            for one in git.get("config", ())
        )
        commits = tuple((str(commit["sha"])[:7], str(commit["subject"])) for commit in git.get("commits", ()))
        return cls(
            f"{git.get('folder') or git.get('model')}: baseline {base}{ref}, candidate {head}{dirty}",
            files, values, commits, tuple(_notes(git, len(files), len(commits))),
        )  # fmt: skip


def lines(meta: Mapping[str, Any]) -> list[str]:
    """The two builds, then a line for each difference; [] for a run that is not of a checkout."""
    found = Changed.of(meta)
    if found is None:
        return []
    told = [f"{path}: {sizes}" for path, sizes in found.files]
    told += [f"{file}: {key}: {before} -> {after}" for file, key, before, after in found.values]
    told += [f"{sha} {subject}" for sha, subject in found.commits]
    return [words.one_line(line) for line in (found.between, *told, *found.notes)]


def _sizes(before: int | None, after: int | None) -> str:
    if before is None or after is None:
        return f"new, {_size(after or 0)}" if before is None else f"removed, {_size(before)}"
    return f"changed, {_size(after)} as before" if before == after else f"changed, {_size(before)} -> {_size(after)}"


def _size(count: int) -> str:
    return f"{count} bytes" if count < 2**20 else words.size(count, "bytes")


def _notes(git: Mapping[str, Any], files: int, commits: int) -> list[str]:
    notes = []
    if (more := int(git.get("changed_count", files)) - files) > 0:
        notes.append(f"{more} more files")
    if (more := int(git.get("commit_count", commits)) - commits) > 0:
        notes.append(f"{more} more commits before these")
    if not files:
        notes.append("no file of the model changed: the two builds are the same")
    if some := not_in_git(git):
        notes.append(f"not in git, so both builds have the working tree's: {some}")
    return notes


def not_in_git(git: Mapping[str, Any]) -> str:
    """Some of the files that git ignores, one after the other; "" where there are none."""
    ignored = git.get("ignored", ())
    return ", ".join(str(path) for path in ignored[:3]) + (", ..." if len(ignored) > 3 else "")
