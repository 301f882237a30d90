"""The file of a lease: who holds a target, whether they still do, and which runs left it without putting it back."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from harness.errors import WorldError
from harness.files import atomic_write


@dataclass(frozen=True, slots=True)
class Left:
    """The folder of a run that ended without putting back what it had changed, and the machine that it is on."""

    folder: str
    host: str


@dataclass(frozen=True, slots=True)
class Holder:
    """`token`: no other holder has it. `began`: when the process did (see `began`). `boot` and `pids`: where its number
    means something. `until_ns`: on CLOCK_MONOTONIC of that boot; `expires` says the same on the wall clock, for others.
    """

    folder: str
    token: str
    pid: int
    began: int | None
    host: str
    boot: str
    pids: str
    since: str
    until_ns: int = 0
    expires: float = 0.0

    @classmethod
    def me(cls, folder: Path, token: str) -> Self:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(str(folder), token, os.getpid(), began(os.getpid()), socket.gethostname(), boot(), pids(), since)

    def renewed(self, ttl_s: float) -> Self:
        return replace(self, until_ns=time.monotonic_ns() + round(ttl_s * 1e9), expires=time.time() + ttl_s)

    @property
    def here(self) -> bool:
        """Its process can be seen from this one."""
        return (self.boot, self.pids) == (boot(), pids())

    @property
    def gone(self) -> bool:
        """Its process is seen to have ended."""
        return self.here and began(self.pid) != self.began

    @property
    def left_s(self) -> float:
        """How long it holds on without being renewed."""
        if self.boot == boot():
            return max((self.until_ns - time.monotonic_ns()) / 1e9, 0.0)
        return max(self.expires - time.time(), 0.0)

    @property
    def alive(self) -> bool:
        """It holds what it holds."""
        if self.gone:
            return False
        by_boot = self.boot == boot() and time.monotonic_ns() < self.until_ns
        return by_boot or (not self.here and time.time() < self.expires)


@dataclass(frozen=True, slots=True)
class Record:
    """What the file says. `left`: runs that are to be put back before anybody else changes the target."""

    target: str
    holder: Holder | None = None
    left: tuple[Left, ...] = field(default=())


def record_file(folder: Path, target: str) -> Path:
    """Where the lease of `target` lies."""
    name = same(target)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    return folder / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.json"


def same(target: str) -> str:
    """One name for addresses that mean the same: this machine's own, and one split whatever its arms are called."""
    url = urlsplit(target)
    place = url.netloc.lower()
    host, colon, port = place.rpartition(":")
    if host in ("localhost", "[::1]"):
        place = f"127.0.0.1{colon}{port}"
    query = urlencode([(key, value) for key, value in parse_qsl(url.query) if key not in ("baseline", "candidate")])
    return urlunsplit((url.scheme, place, url.path.rstrip("/"), query, ""))


def read_record(path: Path, target: str) -> Record:
    """Raises WorldError where it cannot be read: who holds the target is then not known."""
    try:
        found = json.loads(path.read_bytes())
        holder = Holder(**found["holder"]) if found["holder"] is not None else None
        return Record(found["target"], holder, tuple(Left(**each) for each in found["left"]))
    except FileNotFoundError:
        return Record(target)
    except OSError as error:
        raise WorldError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError):
        raise WorldError(f"{path}: is no lease any more: remove it, if no run is at {target}") from None


def write_record(path: Path, record: Record) -> None:
    """Raises RecordingError (disk full)."""
    if record.holder is None and not record.left:
        path.unlink(missing_ok=True)
        return
    content: dict[str, Any] = asdict(record)
    atomic_write(path, json.dumps(content, indent=1).encode() + b"\n")


def began(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine did; None if it has ended. Seconds since 1970, which
    psutil gives, move with the wall clock.
    """
    try:
        # "pid (command) state ppid ...": the command may hold blanks and brackets
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@cache
def boot() -> str:
    """This machine since it was started; "" where that cannot be told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def pids() -> str:
    """The namespace in which process numbers are this process's: containers have their own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
