"""Files and folders that are on the disk when a call returns, with modes that do not depend on the umask."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from pathlib import Path

FILE_MODE = 0o644
FOLDER_MODE = 0o755
"""Triton often runs as another user than the one who syncs."""

_AT_FDCWD = -100
_NOREPLACE = 1
_NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # an old kernel, or a filesystem such as NFS


def fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Every folder of the tree, the innermost first; the files were synced as they were written.

    A run that was killed may have left a folder that it had not given its mode.
    """
    for base, _, _ in os.walk(folder, topdown=False):
        Path(base).chmod(FOLDER_MODE)
        fsync_folder(Path(base))


def make_folder(folder: Path) -> None:
    """The folder, and those above it that are missing, each entered in its parent for good."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    folder.chmod(FOLDER_MODE)
    fsync_folder(folder.parent)


def make_visible_folder(folder: Path, spare: Path) -> None:
    """As `make_folder`, but nobody ever sees one with another mode: each is made as `spare`, and renamed."""
    if folder.is_dir():
        return
    make_visible_folder(folder.parent, spare)
    spare.mkdir(exist_ok=True)
    spare.chmod(FOLDER_MODE)
    with suppress(FileExistsError):
        rename_new(spare, folder)


def write_file(file: Path, data: bytes, mode: int = FILE_MODE) -> None:
    with file.open("wb") as stream:
        stream.write(data)
        os.fchmod(stream.fileno(), mode)
        stream.flush()
        os.fsync(stream.fileno())


def rename_new(source: Path, target: Path) -> None:
    """Rename, for good. FileExistsError if `target` exists, even as an empty folder, which rename(2) would replace."""
    code = _rename_no_replace(source, target)
    if code in _NOT_OFFERED and not os.path.lexists(target):
        source.rename(target)
    elif code:
        code = errno.EEXIST if code in _NOT_OFFERED else code
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    fsync_folder(target.parent)


def _rename_no_replace(source: Path, target: Path) -> int:
    """0, or the errno."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return errno.ENOSYS
    done: int = call(_AT_FDCWD, bytes(source), _AT_FDCWD, bytes(target), _NOREPLACE)
    return ctypes.get_errno() if done != 0 else 0


def replace(source: Path, target: Path) -> None:
    """Atomically, for good; the mode of what was there is kept."""
    if target.exists():
        source.chmod(target.stat().st_mode & 0o7777)
    source.replace(target)
    fsync_folder(target.parent)
