"""A lease on what a run changes, so that no two runs change it at the same time.

Guarantee: of the runs that share `$XDG_STATE_HOME` one at most holds a target, and a dead one holds none. On one
machine that is told from the process itself, and no jump of the wall clock makes a lease shorter or longer; between
machines their wall clocks must agree within the time of a lease.
A lease that ends in another way than by `release` leaves word of its run: whoever takes the target next is told which
runs have to be put back first (see unfinished.py).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from harness.errors import CanaryError, UsageError, WorldError
from harness.run.holder import Holder, Left, Record, read_record, record_file, write_record
from harness.run.journal import read
from harness.run.owed import owes
from harness.run.state import state_home

TTL_S = 30.0
PATIENCE_S = 10.0
"""Nobody keeps the files locked for longer than it takes to write them."""


class Lost(WorldError):
    """Somebody else has the target, or had it meanwhile: nothing may be changed any more."""


class Lease:
    """On `targets`, for the run in `folder`, until `release`; renewed by a thread of its own. See `take`.

    `left`: runs that held one of the targets, and ended without putting back what they had changed.
    """

    def __init__(self, targets: Sequence[str], folder: Path, ttl_s: float) -> None:
        self.targets = tuple(sorted(set(targets)))
        self.left: tuple[Left, ...] = ()
        self._folder, self._ttl_s = folder, ttl_s
        self._home = state_home() / "leases"
        self._paths = {record_file(self._home, target): target for target in self.targets}
        self._me = Holder.me(folder, secrets.token_hex(16))
        self._lost: Lost | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew_on, name="lease", daemon=True)

    @classmethod
    def take(cls, targets: Sequence[str], folder: Path, ttl_s: float = TTL_S) -> Self:
        """All of them or none: addresses of Tritons and routers.

        Raises UsageError, which names the run and says what to do, where one of them is held. WorldError: the leases
        cannot be written (disk full).
        """
        lease = cls(targets, folder, ttl_s)
        if lease.targets:
            lease._take()
            lease._thread.start()
        return lease

    @property
    def host(self) -> str:
        return self._me.host

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def check(self) -> None:
        """To be called often, and before each change. Raises Lost once anybody else had one of the targets: a process
        that was stopped may go on long after its lease was over. WorldError: it is over, and cannot be renewed.
        """
        if self._lost is None and self.targets and not self._over.is_set():
            for path, target in self._paths.items():
                self._mine(read_record(path, target))
            if time.monotonic_ns() >= self._me.until_ns:
                self._renew()
        if self._lost is not None:
            raise self._lost

    def fence(self) -> None:
        """The same before something is put back: that is done although no lease can be written. Raises Lost."""
        with suppress(WorldError):
            self.check()
        if self._lost is not None:
            raise self._lost

    def settled(self, left: Left) -> None:
        """That run is put back."""
        self.left = tuple(each for each in self.left if each != left)
        with _locked(self._home):
            for path, target in self._paths.items():
                record = read_record(path, target)
                rest = tuple(each for each in record.left if each != left)
                write_record(path, Record(target, record.holder, rest))

    def release(self) -> None:
        """A second call does nothing. Where the run's journal still asks for something to be put back, word of that
        stays. Never raises: a file that cannot be changed names a process that will have ended.
        """
        if self._over.is_set() or not self.targets:
            return
        self._over.set()
        self._thread.join()
        mine = Left(self._me.folder, self._me.host)
        owed = (mine,) if self._owes() else ()
        with suppress(CanaryError), _locked(self._home):
            for path, target in self._paths.items():
                with suppress(CanaryError):
                    record = read_record(path, target)
                    if record.holder and record.holder.token == self._me.token:
                        rest = tuple(each for each in record.left if each != mine)
                        write_record(path, Record(target, None, rest + owed))

    def _owes(self) -> bool:
        try:
            return self._folder.is_dir() and owes(read(self._folder))
        except CanaryError:
            return True

    def _take(self) -> None:
        with _locked(self._home):
            found = {path: read_record(path, target) for path, target in self._paths.items()}
            for record in found.values():
                _refuse_while_held(record)
            self._me = self._me.renewed(self._ttl_s)
            try:
                for path, record in found.items():
                    write_record(path, Record(record.target, self._me, _left(record, self._folder)))
            except CanaryError:
                for path, record in found.items():
                    with suppress(CanaryError):
                        write_record(path, record)
                raise
            self.left = tuple(dict.fromkeys(left for record in found.values() for left in _left(record, self._folder)))

    def _renew_on(self) -> None:
        while self._lost is None and not self._over.wait(self._ttl_s / 3):
            # A disk that is full now may not be so at the next turn; `check` says what came of it.
            with suppress(CanaryError):
                self._renew()

    def _renew(self) -> None:
        with _locked(self._home):
            found = {path: read_record(path, target) for path, target in self._paths.items()}
            if not all(self._mine(record) for record in found.values()):
                return
            renewed = self._me.renewed(self._ttl_s)
            for path, record in found.items():
                write_record(path, Record(record.target, renewed, record.left))
            self._me = renewed

    def _mine(self, record: Record) -> bool:
        if record.holder is not None and record.holder.token == self._me.token:
            return True
        by = f"run {record.holder.folder}" if record.holder else "another run, which has ended"
        self._lost = Lost(f"{record.target}: lost to {by}: this process was stopped for longer than {self._ttl_s:g} s")
        return False


def held_by_another(target: str) -> str | None:
    """The run of another process that has `target` now, in a line; None if there is none. Raises WorldError."""
    record = read_record(record_file(state_home() / "leases", target), target)
    holder = record.holder
    if holder is None or not holder.alive or (holder.here and holder.pid == os.getpid()):
        return None
    return _said(target, holder)


def forget(folder: Path) -> None:
    """The run in `folder` is put back: nobody need be told of it any more. Raises WorldError."""
    home = state_home() / "leases"
    if not home.is_dir():
        return
    with _locked(home):
        for path in home.glob("*.json"):
            record = read_record(path, "")
            holder = record.holder
            over = holder is not None and holder.folder == str(folder) and not holder.alive
            left = tuple(each for each in record.left if each.folder != str(folder))
            if over or left != record.left:
                write_record(path, Record(record.target, None if over else holder, left))


def _refuse_while_held(record: Record) -> None:
    holder = record.holder
    if holder is None or holder.gone:
        return
    if holder.alive:
        raise UsageError(
            f"{_said(record.target, holder)}: stop it, or wait for its end; were it dead, its lease would end in "
            f"{holder.left_s:.0f} s, and triton-canary recover {shlex.quote(holder.folder)} would put it back"
        )
    if holder.here and _leaves(Path(holder.folder)):
        raise UsageError(
            f"{_said(record.target, holder)}, hangs or was stopped, and has not put back what it changed: end it "
            f"(kill -9 {holder.pid}), and run this again"
        )


def _said(target: str, holder: Holder) -> str:
    return f"{target}: run {holder.folder} has it since {holder.since} (process {holder.pid} on {holder.host})"


def _left(record: Record, folder: Path) -> tuple[Left, ...]:
    """The runs that are to be put back before the one in `folder` begins."""
    left, holder = record.left, record.holder
    if holder is not None and holder.folder != str(folder) and _leaves(Path(holder.folder)):
        left = (*left, Left(holder.folder, holder.host))
    return tuple(dict.fromkeys(left))


def _leaves(folder: Path) -> bool:
    """Whether a run that is over may have left something to put back. What cannot be read may have."""
    try:
        # Here, because moving traffic back by hand must not wait for what reads recordings.
        from harness.recording import is_operation

        if is_operation(folder):
            # What it did is in a journal of its servers'.
            return not any(entry.action == "run.end" and entry.state == "done" for entry in read(folder))
        return not folder.is_dir() or owes(read(folder))
    except CanaryError:
        return True


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One lock for all leases: it is held for milliseconds, and so all are taken or none."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / ".lock").open("w")
    except OSError as error:
        raise WorldError(f"{home}: cannot be written: {error.strerror}") from error
    with file:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WorldError(f"{home}: somebody has kept the leases locked for {PATIENCE_S:g} s") from None
                time.sleep(0.01)
            except OSError as error:
                raise WorldError(f"{home}: cannot be locked: {error.strerror}") from error
            else:
                break
        yield
