"""Whether the demonstration models run on a GPU here.

PyTorch itself is asked, once, in a process of its own with the server's environment: what it sees there is what the
models will have, and this process never has to import it.
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from importlib import util
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from harness.embedded import runtime

NODE = Path("/dev/nvidiactl")
"""The NVIDIA driver's; a machine without it is not asked any further."""
LIMIT_S = 180.0
"""The first import of PyTorch from a cold disk, and the first context on a large machine, take a while."""
TORCH_INSTALL = "pip install 'triton-canary[torch]'"
OLDEST_TORCH = (2, 9)

# A small computation: a GPU for which this PyTorch has no code is seen all the same, and fails at the first one.
_QUESTION = """
import sys
try:
    import torch
    assert torch.ones(2, device="cuda").sum().item() == 2
    name, able = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    if able < (8, 9):
        sys.exit(f"{name} has no FP8 arithmetic (compute capability {able[0]}.{able[1]}, 8.9 and newer have it)")
    print("GPU:", name)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}".splitlines()[0])
"""


def gpu_available() -> str | None:
    """None where the models run on a GPU here; otherwise one line that says why they run on the CPU.

    On a machine with a GPU the first call in a process takes seconds, later ones nothing.
    """
    return _answer().problem or None


def gpu_name() -> str:
    """Of the GPU on which the models run; empty where they run on the CPU."""
    return _answer().name


def runs_on() -> str:
    """Where the models run that can use a GPU, for people: `on the GPU: NVIDIA H200`, or `on the CPU: ` and why."""
    name, problem = _answer()
    return f"on the CPU: {problem}" if problem else f"on the GPU: {name}"


def torch_available() -> str | None:
    """None where PyTorch is installed, with CUDA or without; otherwise one line that says how to get it."""
    found = _torch()
    if found is None:
        return f"PyTorch is not installed: {TORCH_INSTALL}"
    if runtime.numbers(found.version) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        return f"PyTorch {found.version} is older than {oldest}: {TORCH_INSTALL}"
    return None


def torch_told() -> str:
    """PyTorch in words: `2.13.0+cpu, for the CPU`, `2.11.0+cu130, CUDA 13.0`, or what `torch_available` says."""
    if problem := torch_available():
        return problem
    found = _torch()
    assert found is not None
    return f"{found.version}, {f'CUDA {found.cuda}' if found.cuda else 'for the CPU'}"


class _Torch(NamedTuple):
    """As its file version.py says; `cuda` is empty where it was built without."""

    version: str
    cuda: str


class _Answer(NamedTuple):
    """Exactly one of both is empty."""

    name: str
    problem: str


def _answer() -> _Answer:
    if not NODE.exists():
        return _Answer("", f"no NVIDIA GPU here ({NODE} is missing)")
    if problem := _hidden() or runtime.available() or torch_available():
        return _Answer("", problem)
    found = _torch()
    assert found is not None
    if not found.cuda:
        return _Answer("", f"PyTorch {found.version} was built without CUDA: install one that was built with it")
    return _asked(found.version, os.environ.get("CUDA_VISIBLE_DEVICES"), runtime.models_path())


def _hidden() -> str:
    """CUDA takes the GPUs before the first entry that names none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    first = visible.partition(",")[0].strip()
    return "" if first and not first.startswith("-") else f"CUDA_VISIBLE_DEVICES={visible} hides the GPUs"


def _torch() -> _Torch | None:
    """What the models' processes would import."""
    folder = runtime.models_path()
    spec = (PathFinder.find_spec("torch", [str(folder)]) if folder else None) or util.find_spec("torch")
    if spec is None or not spec.origin:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return None
    said = dict(re.findall(r"""^(__version__|cuda)\b[^=\n]*= *['"]([^'"]+)['"]""", text, re.MULTILINE))
    return _Torch(said["__version__"], said.get("cuda", "")) if "__version__" in said else None


@cache
def _asked(version: str, *_about: object) -> _Answer:
    """`_about`: what else the answer depends on, where that may change within a process."""
    environment = runtime.environment()
    python = Path(environment["VIRTUAL_ENV"]) / "bin" / "python3"
    try:
        done = subprocess.run(
            [python, "-P", "-c", _QUESTION], env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return _Answer("", f"PyTorch {version} did not say within {LIMIT_S:.0f} s whether it sees a GPU")
    if found := re.search(r"^GPU: (.+)$", done.stdout, re.MULTILINE):
        return _Answer(found[1], "")
    last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
    return _Answer("", f"PyTorch {version} cannot use the GPU: {last.strip()}")
