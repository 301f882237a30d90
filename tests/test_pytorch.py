"""tests/pytorch.sh, which `make setup` calls: which PyTorch gets into .venv, and that it never fails.

The .venv is one whose `pip` only writes down what it was asked for; its Python is real.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("pytorch.sh")
CPU, CUDA = "requirements-torch.lock", "requirements-torch-cuda.lock"
PIP = """#!/bin/sh
case "$*" in
  *"-m pip uninstall"*)
    echo "$*" >>asked
    exec rm -r "$DIST_INFO";;
  *"-m pip"*)
    echo "$*" >>asked
    for had in $HAD; do case "$*" in *"-r $had") exit 0;; esac; done
    echo "a warning of pip's" >&2
    echo "ERROR: No matching distribution found for torch" >&2
    exit 1;;
esac
exec .venv/bin/real "$@"
"""


class Machine:
    """What a checkout has of a machine: .venv, and another Python that may have a PyTorch."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.node = folder, folder / "nvidiactl"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
        python = folder / ".venv" / "bin" / "python"
        python.rename(python.with_name("real"))
        python.write_text(PIP)
        python.chmod(0o755)
        (site,) = (folder / ".venv" / "lib").glob("python3.*/site-packages")
        self.dist_info = site / "torch-2.13.0+cpu.dist-info"
        self.packages = folder / "other"
        self.python = folder / "python-of-the-machine"
        self.python.write_text(f'#!/bin/sh\nPYTHONPATH={self.packages} exec {sys.executable} "$@"\n')
        self.python.chmod(0o755)

    def torch(self, version: str, cuda: str | None, code: str = "") -> None:
        folder = self.packages / "torch"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f'"""A fake of PyTorch, for tests."""\n{code}')
        (folder / "version.py").write_text(f"__version__ = {version!r}\ncuda: Optional[str] = {cuda!r}\n")

    def set_up(self, *had: str) -> tuple[list[str], str]:
        """The locks (or a package to take away) that pip was asked for, of which it has `had`; what stderr says."""
        environment = {
            **os.environ,
            "NVIDIA_NODE": str(self.node),
            "HAD": " ".join(had),
            "DIST_INFO": str(self.dist_info),
        }
        command = [str(SCRIPT), str(self.python)]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=True)
        asked = self.folder / "asked"
        lines = asked.read_text().splitlines() if asked.exists() else []
        return [line.rpartition(" ")[2] for line in lines], done.stderr

    def imports(self) -> bool:
        """Whether .venv has a PyTorch."""
        code = "import importlib.util as u; print(u.find_spec('torch') is not None)"
        command = [self.folder / ".venv" / "bin" / "real", "-c", code]
        return "True" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_a_gpu_it_is_the_build_for_the_cpu(machine: Machine) -> None:
    machine.torch("2.11.0+cu130", "13.0")
    assert machine.set_up(CPU) == ([CPU], "")
    assert not machine.imports()


def test_where_none_can_be_had_one_line_says_so(machine: Machine) -> None:
    asked, said = machine.set_up()
    assert asked == [CPU]
    why = "ERROR: No matching distribution found for torch"
    assert said == f"PyTorch is not to be had here, so the models that need it are left out: {why}\n"


def test_with_a_gpu_it_is_that_of_the_machine_where_there_is_one(machine: Machine) -> None:
    machine.node.touch()
    machine.torch("2.11.0+cu130", "13.0")
    assert machine.set_up(CPU, CUDA) == ([], "")
    assert machine.imports()
    machine.node.unlink()
    assert machine.set_up(CPU) == ([CPU], "")
    assert not machine.imports(), "made anew, after the GPU has gone"


@pytest.mark.parametrize(
    ("version", "cuda", "code"),
    [
        ("2.13.0+cpu", None, ""),
        ("2.8.0+cu129", "12.9", ""),
        ("2.11.0+cu130", "13.0", "raise OSError('libcudart.so.13: cannot open shared object file')"),
    ],
    ids=["for the CPU", "old", "broken"],
)
def test_one_that_is_of_no_use_is_left_where_it_is(machine: Machine, version: str, cuda: str | None, code: str) -> None:
    machine.node.touch()
    machine.torch(version, cuda, code)
    assert machine.set_up(CPU, CUDA) == ([CUDA], "")
    assert not machine.imports()


def test_with_a_gpu_and_no_cuda_to_be_had_it_is_the_build_for_the_cpu(machine: Machine) -> None:
    machine.node.touch()
    asked, said = machine.set_up(CPU)
    assert asked == [CUDA, CPU]
    assert said.startswith("PyTorch with CUDA is not to be had here, so models run on the CPU: ERROR: No matching")
    assert said.count("\n") == 1


@pytest.mark.parametrize("cuda", ["13.0", None], ids=["with CUDA on the machine", "without"])
def test_what_was_there_before_the_gpu_goes_first(machine: Machine, cuda: str | None) -> None:
    machine.dist_info.mkdir()
    machine.node.touch()
    machine.torch("2.11.0", cuda)
    asked, said = machine.set_up(CUDA)
    assert asked == (["torch"] if cuda else ["torch", CUDA])
    assert said == ""
    assert not machine.dist_info.exists()
