"""Git working trees with models of the Python backend in them, as a team has them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

CONFIG = """name: "{name}"  # as its folder
backend: "python"
max_batch_size: 0
input [ {{ name: "INPUT" data_type: TYPE_FP32 dims: [ 4 ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [ 4 ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
"""
MODEL = """import time

import triton_python_backend_utils as pb

DELAY_S = {delay_s}


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(DELAY_S)
        read = [pb.get_input_tensor_by_name(request, "INPUT").as_numpy() for request in requests]
        return [pb.InferenceResponse(output_tensors=[pb.Tensor("OUTPUT", values)]) for values in read]
"""
ENSEMBLE = """platform: "ensemble"
input [ { name: "INPUT" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 4 ] } ]
ensemble_scheduling {
  step [
    { model_name: "first" model_version: -1  # whichever is newest
      input_map { key: "INPUT" value: "INPUT" } output_map { key: "OUTPUT" value: "between" } },
    { model_name: "second" model_version: 2
      input_map { key: "INPUT" value: "between" } output_map { key: "OUTPUT" value: "OUTPUT" } }
  ]
}
"""


def git(folder: Path, *words: str) -> str:
    """As somebody whose own configuration of git does not matter."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@localhost",
        "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@localhost",
    }  # fmt: skip
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.strip()


def write_model(folder: Path, *, version: int = 1, delay_s: float = 0.004) -> Path:
    """A model that answers what it is asked, after a while. Its file of that version."""
    (folder / str(version)).mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(CONFIG.format(name=folder.name))
    file = folder / str(version) / "model.py"
    file.write_text(MODEL.format(delay_s=delay_s))
    return file


def commit(root: Path, subject: str) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", subject)
    return git(root, "rev-parse", "HEAD")


def working_tree(root: Path) -> Path:
    """A repository with the model `echo` on the branch main, and a branch `work` checked out. The model's folder."""
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    write_model(root / "models" / "echo")
    (root / "README").write_text("models\n")
    commit(root, "echo: the first version")
    git(root, "checkout", "-q", "-b", "work")
    return root / "models" / "echo"


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a folder, its time of change and content; the index of git too, but not what git logs."""
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
