"""Locks that the kernel lets go of when their process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import UsageError

LOOK_AGAIN_S = 0.1


@contextmanager
def held(file: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the file, which is made. UsageError, naming who holds it, after `wait_s` seconds, or where it cannot be."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}, so no sync can hold it") from error
    try:
        try:
            taken = _taken(descriptor, wait_s)
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}, so no sync can hold it: another --staging may do") from error
        if not taken:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise UsageError(f"another sync is at work: {holder} holds {file}")
        with suppress(OSError):  # a full disk: the lock holds without the name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def folder_held(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a folder, which leaves nothing in it. UsageError after `wait_s` seconds.

    A filesystem that cannot hold folders, such as NFS, is no error: there, only the file keeps others out.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        taken = True
        with suppress(OSError):
            taken = _taken(descriptor, wait_s)
        if not taken:
            raise UsageError(f"another sync is at work in {folder}, with another staging folder")
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_AGAIN_S)
