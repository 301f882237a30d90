"""The journal: what the run does to the world, written before and after it is done.

One JSON object a line, fsynced before the action is started, so that whatever dies, `recover` knows what may have
happened. A line is `{seq, t, action, target, before, wanted, state}`; `state` is begun, done or failed, and the three
lines of one action share `seq`. A line that puts earlier actions back lists them in `undoes`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import RecordingError

FILE = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One action, with the last state that was written for it."""

    seq: int
    action: str
    target: str
    before: Any
    wanted: Any
    state: str
    undoes: list[int] | None = None
    error: str = ""


class Journal:
    """Append-only; safe to open again after a crash (a torn last line is ignored), and to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._seq = max((entry.seq for entry in read(folder)), default=0)
        self.fence: Callable[[], None] = lambda: None
        """Raises what forbids any further change: somebody else has the run's lease."""

    def entries(self) -> list[Entry]:
        return read(self.folder)

    @contextmanager
    def action(
        self, action: str, target: str, *, before: Any = None, wanted: Any = None, undoes: list[int] | None = None
    ) -> Iterator[int]:
        """Write `begun`, run the body with the action's `seq`, write `done`; `failed` with the reason if it raises.

        Raises RecordingError, and does not run the body, where `begun` cannot be written, and what `fence` raises. An
        action that puts another one back is done all the same: a full disk must not hold the traffic.
        """
        if undoes is None:
            self.fence()
        with self._lock:
            self._seq += 1
            seq = self._seq
        line: dict[str, Any] = {
            "seq": seq, "t": "", "action": action, "target": target, "before": before, "wanted": wanted,
        }  # fmt: skip
        if undoes is not None:
            line["undoes"] = undoes
        write = self._write if undoes is None else self._try_to_write
        write({**line, "state": "begun"})
        try:
            yield seq
        except BaseException as error:
            self._try_to_write({**line, "state": "failed", "error": str(error) or type(error).__name__})
            raise
        write({**line, "state": "done"})

    def _try_to_write(self, line: dict[str, Any]) -> None:
        with suppress(RecordingError):
            self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        line["t"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock:
            self._append(line)

    def _append(self, line: dict[str, Any]) -> None:
        try:
            torn = self._path.exists() and self._path.stat().st_size and not self._path.read_bytes().endswith(b"\n")
            with self._path.open("ab") as file:
                file.write((b"\n" if torn else b"") + json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RecordingError(f"{self._path}: the journal cannot be written: {error.strerror}") from error


def read(folder: Path) -> list[Entry]:
    """The actions in order, each with its last state. A torn line is passed over: its action had not begun."""
    entries: dict[int, Entry] = {}
    try:
        text = (folder / FILE).read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RecordingError(f"{folder / FILE}: cannot be read: {error.strerror}") from error
    for raw in text.splitlines():
        try:
            line = json.loads(raw)
            if type(line["seq"]) is not int or type(line["action"]) is not str:
                continue
            entries[line["seq"]] = Entry(
                seq=line["seq"], action=line["action"], target=line["target"], before=line["before"],
                wanted=line["wanted"], state=line["state"], undoes=line.get("undoes"), error=line.get("error", ""),
            )  # fmt: skip
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return [entries[seq] for seq in sorted(entries)]


def not_put_back(entries: list[Entry]) -> list[Entry]:
    """Actions that changed the world, or may have, newest first: the order in which they are put back.

    `run.end` closes what came before it: a run that ended by itself left things as its verdict wanted them.
    """
    undone = {seq for entry in entries if entry.undoes is not None and entry.state == "done" for seq in entry.undoes}
    pending: list[Entry] = []
    for entry in entries:
        if entry.action == "run.end" and entry.state == "done":
            pending.clear()
        elif entry.undoes is None and entry.seq not in undone:
            pending.append(entry)
    return pending[::-1]
