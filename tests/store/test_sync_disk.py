"""Real full disks and real mounts, in a mount namespace of their own; skipped where the kernel allows none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.folders import CONFIG, noise, put_own, put_version

MIB = 1 << 20


def _namespace() -> list[str]:
    """The command that gives a process its own mounts: as root plainly, as a user with a user namespace."""
    for command in (["unshare", "-m"], ["unshare", "-rm"]):
        probe = [*command, "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        try:
            if subprocess.run(probe, capture_output=True, timeout=60).returncode == 0:
                return command
        except (OSError, subprocess.TimeoutExpired):
            break
    return []


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    command = _namespace()
    if not command:
        pytest.skip("neither unshare -m nor unshare -rm can mount a tmpfs here")
    return command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    put_version(root, "llm", 1, {"a.plan": noise(2 * MIB, 1)})
    put_version(root, "llm", 2, {"a.plan": noise(2 * MIB, 3), "b.plan": noise(3 * MIB, 2)})
    put_own(root, "llm", {"config.pbtxt": CONFIG})
    return root


def inside(namespace: list[str], mounts: str, code: str, *arguments: Path) -> str:
    """What `code` prints, run after the shell has made its mounts."""
    done = subprocess.run(
        [*namespace, "sh", "-ec", f'{mounts}\nexec "$0" -c "$@"', sys.executable, code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


FULL = """
import os, sys
from pathlib import Path
from harness.errors import StoreError
from harness.store import FolderStore, sync
from tests.store.folders import contents, partial_versions
store, disk = FolderStore(sys.argv[1]), Path(sys.argv[2])
models, ballast = disk / "models", disk / "ballast"
models.mkdir()
sync(store, models, versions=[1])
before = contents(models)
class Filling(FolderStore):
    def read(self, file, offset=0):
        for block in super().read(file, offset):
            if file.key == "llm/2/b.plan" and not ballast.exists():
                with ballast.open("wb") as stream:
                    try:
                        while stream.write(bytes(4096)):
                            stream.flush()
                    except OSError:
                        pass
            yield block
try:
    sync(Filling(sys.argv[1]), models, workers=1)
except StoreError as error:
    print(error)
assert contents(models) == before, list(contents(models))
staged = sum(p.stat().st_size for p in (disk / ".triton-canary-staging").rglob("*") if p.is_file())
assert staged > 2_000_000, staged
ballast.unlink()
result = sync(store, models)
assert result.added == (("llm", 2),), result
assert result.bytes < 5 * 1024 * 1024, result
assert partial_versions(models) == []
"""


def test_a_full_disk(namespace: list[str], root: Path, tmp_path: Path) -> None:
    """The disk fills while files arrive: one line, the repository as it was; with room again the rest is fetched."""
    disk = tmp_path / "disk"
    disk.mkdir()
    said = inside(namespace, f"mount -t tmpfs -o size=16m tmpfs {disk}", FULL, root, disk)
    assert "the disk is full" in said
    assert "what was fetched is kept there, and the same command goes on from it" in said
    assert said.count("\n") == 1


SMALL = """
import sys
from pathlib import Path
from harness.errors import StoreError
from harness.store import FolderStore, sync
disk = Path(sys.argv[2])
(disk / "models").mkdir()
try:
    sync(FolderStore(sys.argv[1]), disk / "models")
except StoreError as error:
    print(error)
assert list((disk / "models").iterdir()) == []
"""


def test_a_small_disk_is_noticed_beforehand(namespace: list[str], root: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    said = inside(namespace, f"mount -t tmpfs -o size=4m tmpfs {disk}", SMALL, root, disk)
    assert "bytes are still to be fetched and" in said
    assert "nothing was fetched" in said


MOUNTED = """
import sys
from pathlib import Path
from harness.errors import UsageError
from harness.store import FolderStore, sync
store, models = FolderStore(sys.argv[1]), Path(sys.argv[2])
try:
    sync(store, models)
except UsageError as error:
    print(error)
assert list(models.iterdir()) == []
assert not (models.parent / ".triton-canary-staging").exists()
"""


@pytest.mark.parametrize("mount", ["mount -t tmpfs tmpfs {models}", "mount --bind {other} {models}"])
def test_a_volume_mounted_as_the_repository(namespace: list[str], root: Path, tmp_path: Path, mount: str) -> None:
    """The second case is one filesystem with one st_dev, and still no rename leads across."""
    models, other = tmp_path / "vol/models", tmp_path / "other"
    models.mkdir(parents=True)
    other.mkdir()
    said = inside(namespace, mount.format(models=models, other=other), MOUNTED, root, models)
    assert "is a mount point" in said
    assert "mount the volume one level up" in said
    assert "--staging" in said


READ_ONLY = """
import sys
from pathlib import Path
from harness.errors import UsageError
from harness.store import FolderStore, sync
try:
    sync(FolderStore(sys.argv[1]), Path(sys.argv[2]))
except UsageError as error:
    print(error)
"""


def test_a_repository_that_cannot_be_written_to(namespace: list[str], root: Path, tmp_path: Path) -> None:
    volume = tmp_path / "vol"
    (volume / "models").mkdir(parents=True)
    mounts = f"mount --bind {volume} {volume}; mount -o remount,bind,ro {volume}"
    assert "cannot be written to" in inside(namespace, mounts, READ_ONLY, root, volume / "models")
