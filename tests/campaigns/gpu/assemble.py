"""On the bare machine: takes a piece, and with the last one makes a place where this project runs. bare.sh calls it.

The folder $GPU_STATE (/tmp/triton-canary-gpu) then has venv/, of that machine's Python, which sees site/ (what was
brought), this checkout, and the machine's own packages, PyTorch among them, in this order; numpy1/, for the models of
the embedded Triton alone; and env.sh, to be sourced. Nothing is fetched. Each step prints one line, with its seconds.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.campaigns.gpu import pieces

ROOT = Path(__file__).resolve().parents[3]
PLACES = {"numpy1": "numpy1", "python": "python"}
"""Where an archive goes that is not for site/."""

# What the harness imports: what is missing or does not fit is told now, and not in the middle of a run.
IMPORTS = (
    "numpy", "scipy.stats", "pandas", "pyarrow.parquet", "matplotlib.figure", "grpc", "tritonclient.grpc", "pydantic",
    "ruamel.yaml", "jsonschema", "hpack", "httpx", "jinja2", "rich", "psutil", "prometheus_client", "pynvml", "gguf",
    "ml_dtypes", "tokenizers", "opentelemetry.proto.metrics.v1.metrics_pb2", "harness.cli", "locust",
)  # fmt: skip


def main() -> int:
    state = Path(os.environ.get("GPU_STATE") or "/tmp/triton-canary-gpu")
    state.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        for piece in sys.argv[1:]:
            _step(f"piece {Path(piece).name}", lambda piece=piece: f"number {pieces.take(Path(piece), state)} is whole")
        absent = pieces.missing(state)
        if absent:
            print(f"still to come: {', '.join(f'piece-{number}' for number in absent)}")
            return 0
        _step("unpack", lambda: unpack(state))
        _step("venv", lambda: make_venv(state))
        _step("libraries", lambda: libraries(state))
        _step("packages", lambda: packages(state))
        _step("bytecode", lambda: bytecode(state))
    except pieces.BadPiece as error:
        print(error, file=sys.stderr)
        return 2
    except (subprocess.CalledProcessError, RuntimeError) as error:
        print(f"{error}\n{getattr(error, 'stderr', None) or ''}".strip(), file=sys.stderr)
        return 1
    print(f"ready in {time.monotonic() - began:.1f} s: . {state / 'env.sh'}")
    return 0


def unpack(state: Path) -> str:
    """Each archive to its place, once for each set of pieces."""
    done = state / "unpacked.json"
    of = (state / pieces.MANIFEST).read_text()
    if done.exists() and done.read_text() == of:
        return "was done before"
    names = [each["name"] for each in pieces.manifest(state)["archives"]]
    with ThreadPoolExecutor() as pool:
        sizes = pool.map(lambda name: pieces.unpack(state, name, state / PLACES.get(name, "site")), names)
        total = sum(sizes)
    done.write_text(of)
    return f"{len(names)} archives, {total / 2**20:.0f} MiB"


def make_venv(state: Path) -> str:
    """Of this Python where it has the library that Triton's stub needs, else of the one that was brought."""
    wanted = pieces.manifest(state)["about"]["python"]
    here = ".".join(platform.python_version_tuple()[:2])
    if here != wanted:
        raise RuntimeError(f"the pieces are for Python {wanted}, this is {here}")
    theirs = _theirs()
    forced = os.environ.get("GPU_PYTHON") == "brought"
    said = "made of the machine's own Python"
    library = None if forced else _venv(state, Path(sys.executable), theirs)
    if library is None:
        brought = state / "python" / "bin" / f"python{wanted}"
        if not brought.exists():
            raise RuntimeError(f"libpython{wanted}.so.1.0 is missing on this machine, and no Python was brought")
        library = _venv(state, brought, theirs)
        said = "made of the Python that was brought"
    if library is None:
        raise RuntimeError(f"no libpython{wanted}.so.1.0")
    program = state / "venv" / "bin" / "triton-canary"
    program.write_text(f"#!{state}/venv/bin/python\nimport sys\n\nfrom harness.cli import main\n\nsys.exit(main())\n")
    program.chmod(0o755)
    (state / "env.sh").write_text(
        f'export PATH="{state}/venv/bin:$PATH"\n'
        f'export TRITON_CANARY_MODELS_PYTHONPATH="{state}/numpy1"\n'
        "unset PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE\n"
    )
    return f"{said}, {library}; packages of {', '.join(map(str, theirs))}"


def _theirs() -> list[Path]:
    """The folders of packages that this Python sees. RuntimeError: PyTorch is in none of them."""
    found = [Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    if not any((folder / "torch" / "__init__.py").is_file() for folder in found):
        raise RuntimeError(f"{sys.executable} has no PyTorch: put the Python that has it first on PATH")
    return found


def _venv(state: Path, python: Path, theirs: list[Path]) -> str | None:
    """Makes it anew, and says where its shared library is; None: nowhere."""
    venv = state / "venv"
    shutil.rmtree(venv, ignore_errors=True)
    _run([python, "-I", "-m", "venv", "--without-pip", "--symlinks", venv])
    packages = venv / "lib" / f"python{platform.python_version_tuple()[0]}.{platform.python_version_tuple()[1]}"
    lines = "\n".join(map(str, [state / "site", ROOT, *theirs]))
    (packages / "site-packages" / "triton-canary.pth").write_text(f"{lines}\n")
    ask = "from harness.embedded.runtime import _libpython; print(_libpython() or '')"
    return _run([venv / "bin" / "python", "-c", ask]).strip() or None


def libraries(state: Path) -> str:
    """RuntimeError: something that Triton's programs link to is neither brought nor on this machine."""
    site, venv = state / "site", state / "venv"
    ask = "from harness.embedded import runtime; print(runtime.environment()['LD_LIBRARY_PATH'])"
    path = _run([venv / "bin" / "python", "-c", ask]).strip()
    programs = [
        site / "pytriton/tritonserver/bin/tritonserver",
        site / "pytriton/tritonserver/backends/python/libtriton_python.so",
        *site.glob("pytriton/tritonserver/python_backend_stubs/*/triton_python_backend_stub"),
    ]
    for program in programs:
        told = _run(["ldd", program], LD_LIBRARY_PATH=path)
        absent = sorted({line.split()[0] for line in told.splitlines() if "not found" in line})
        if absent:
            raise RuntimeError(f"{program.name} needs {', '.join(absent)}, which this machine lacks")
    return f"{len(programs)} programs find all of theirs"


def packages(state: Path) -> str:
    """The machine's own versions of what was not brought. CalledProcessError: something does not import."""
    theirs: dict[str, str] = pieces.manifest(state)["about"]["theirs"]
    code = "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)"
    _run([state / "venv" / "bin" / "python", "-c", code, *IMPORTS])
    other = [
        f"{name} {version or 'is not there'} ({locked} locked)"
        for name, locked in theirs.items()
        if (version := _version(name)) != locked
    ]
    return f"{len(IMPORTS)} imports; the machine's own, other than locked: {', '.join(other) or 'none'}"


def bytecode(state: Path) -> str:
    """Once for all the processes of a run."""
    folders = [state / "site", state / "numpy1", ROOT / "harness", ROOT / "locustfiles"]
    _run([state / "venv" / "bin" / "python", "-m", "compileall", "-q", "-j", "0", *folders], PYTHONDONTWRITEBYTECODE="")
    return f"of {len(folders)} folders"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _run(argv: list[str | Path], **more: str) -> str:
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(argv, env={**env, **more}, capture_output=True, text=True, check=True)
    return done.stdout


def _step(name: str, work: Callable[[], str]) -> None:
    began = time.monotonic()
    said = work()
    print(f"{name}: {said} ({time.monotonic() - began:.1f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
