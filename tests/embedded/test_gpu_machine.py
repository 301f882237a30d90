"""What happens on a machine with a GPU, without one: the driver's device node is a file of the test, and PyTorch a fake
package that the models' path leads to. What is asked, how often, what is believed, and what is written then.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main, running
from harness.embedded import build_repository, gpu, gpu_available, gpu_name, model_available, runs_on, runtime
from harness.errors import UsageError
from harness.triton import read_config

pytestmark = pytest.mark.triton

WORKS = """
import os
from pathlib import Path

with Path(__file__).with_name("asked").open("a") as asked:
    print(os.environ["VIRTUAL_ENV"], file=asked)

class ones:
    def __init__(self, count, device):
        assert device == "cuda"
        self.count = count
    sum = lambda self: self
    item = lambda self: self.count

class cuda:
    get_device_name = staticmethod(lambda number: f"FAKE GPU {number}")
    get_device_capability = staticmethod(lambda number: (9, 0))
"""
Fake = Callable[..., Path]


@pytest.fixture
def fake_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Makes a driver's node, and a fake PyTorch (`code`) of that version and CUDA to which the models' path leads."""

    def make(code: str = WORKS, version: str = "2.11.0+cu130", cuda: str | None = "13.0") -> Path:
        (tmp_path / "nvidiactl").touch()
        monkeypatch.setattr(gpu, "NODE", tmp_path / "nvidiactl")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        folder = tmp_path / "packages"
        (folder / "torch").mkdir(parents=True)
        (folder / "torch" / "__init__.py").write_text(f'"""A fake of PyTorch, for tests."""\n{code}')
        text = f"__version__ = '{version}'\ncuda: Optional[str] = {cuda!r}\nhip: Optional[str] = None\n"
        (folder / "torch" / "version.py").write_text(text)
        (folder / "numpy-1.26.4.dist-info").mkdir()
        (folder / "numpy-1.26.4.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 1.26.4\n")
        monkeypatch.setenv(runtime.MODELS_PYTHONPATH, str(folder))
        return folder / "torch" / "asked"

    return make


def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("PyTorch was asked")

    monkeypatch.setattr(subprocess, "run", refuse)


def test_without_a_driver_nothing_is_asked(fake_torch: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torch()
    nothing_asked(monkeypatch)
    monkeypatch.setattr(gpu, "NODE", tmp_path / "missing")
    assert gpu_available() == f"no NVIDIA GPU here ({tmp_path / 'missing'} is missing)"
    assert gpu_name() == ""
    assert runs_on() == f"on the CPU: no NVIDIA GPU here ({tmp_path / 'missing'} is missing)"


@pytest.mark.parametrize(
    ("visible", "hides"), [("", True), ("-1", True), ("-1,0", True), ("0", False), ("GPU-5f", False)]
)
def test_gpus_may_be_hidden(fake_torch: Fake, monkeypatch: pytest.MonkeyPatch, visible: str, hides: bool) -> None:
    asked = fake_torch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_available() == (f"CUDA_VISIBLE_DEVICES={visible} hides the GPUs" if hides else None)
    assert asked.exists() is not hides


@pytest.mark.parametrize(
    ("torch", "said"),
    [
        ({"cuda": None, "version": "2.13.0+cpu"}, "PyTorch 2.13.0+cpu was built without CUDA"),
        ({"version": "2.8.1"}, "PyTorch 2.8.1 is older than 2.9: pip install 'triton-canary[torch]'"),
    ],
)
def test_a_pytorch_that_cannot_be_of_use_is_not_asked(
    fake_torch: Fake, monkeypatch: pytest.MonkeyPatch, torch: dict[str, Any], said: str
) -> None:
    fake_torch(**torch)
    nothing_asked(monkeypatch)
    assert str(gpu_available()).startswith(said)


def test_without_pytorch_there_is_a_way_to_get_it(fake_torch: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    version = fake_torch().with_name("version.py")
    version.unlink()
    assert gpu_available() == model_available("llama") == "PyTorch is not installed: pip install 'triton-canary[torch]'"
    version.with_name("__init__.py").unlink()
    version.parent.rmdir()
    real = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    assert model_available("llama_batched") == gpu.torch_told() == gpu_available()
    assert model_available("tiny") is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise OSError('libcudart.so.13: cannot open shared object file')", "OSError: libcudart.so.13: cannot open"),
        (
            "def ones(*_, **__):\n    raise RuntimeError('CUDA error: no kernel image\\nCompile with')",
            "no kernel image",
        ),
        ("import os\nos._exit(7)", "it ended with 7"),
        (WORKS.replace("(9, 0)", "(8, 0)"), "FAKE GPU 0 has no FP8 arithmetic (compute capability 8.0"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_told_of(fake_torch: Fake, code: str, said: str) -> None:
    fake_torch(code)
    told = str(gpu_available())
    assert told.startswith("PyTorch 2.11.0+cu130 cannot use the GPU: ")
    assert said in told
    assert "Compile with" not in told
    assert "\n" not in told


def test_a_pytorch_that_hangs_is_given_up(fake_torch: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "LIMIT_S", 0.5)
    fake_torch("import time\ntime.sleep(600)")
    assert "did not say within" in str(gpu_available())


def test_it_is_asked_once_with_the_environment_of_the_models(fake_torch: Fake) -> None:
    asked = fake_torch()
    assert gpu_available() is None
    assert gpu_available() is None
    assert gpu_name() == "FAKE GPU 0"
    assert runs_on() == "on the GPU: FAKE GPU 0"
    assert asked.read_text() == runtime.environment()["VIRTUAL_ENV"] + "\n"


@pytest.mark.embedding
def test_models_are_written_for_the_gpu(fake_torch: Fake, tmp_path: Path) -> None:
    asked = fake_torch()
    build_repository(tmp_path / "tiny", {"tiny": {1: "fp16"}, "smollm2_batched": {1: "fp16"}})
    assert not asked.exists(), "these run on the CPU everywhere"
    folder = tmp_path / "models"
    build_repository(
        folder,
        {
            "smollm2": {1: "fp16", 2: "fp8"},
            "llama": {1: {"shape": "8b", "weights": "fp8"}},
            "llama_batched": {1: "kv8"},
            "rag_v1": {1: "trimmed"},
        },
    )
    for model, shim in {
        "smollm2": "harness.embedded.llama.model import SmolLM2 as TritonPythonModel",
        "llama": "harness.embedded.llama.model import TritonPythonModel",
        "llama_batched": "harness.embedded.llama.batched import TritonPythonModel",
        "rag_embedding": "harness.embedded.rag.embedding_gpu import TritonPythonModel",
    }.items():
        config = read_config(folder / model / "config.pbtxt")
        (group,) = config["instance_group"]
        assert group == {"count": 1, "kind": "KIND_GPU", "gpus": [0]}
        assert f"from {shim}\n" in (folder / model / "1" / "model.py").read_text()
    for model in ("rag_tokenizer", "rag_search", "rag_prompt"):
        (group,) = read_config(folder / model / "config.pbtxt")["instance_group"]
        assert group["kind"] == "KIND_CPU"
    assert asked.read_text().count("\n") == 1


def test_the_doctor_says_where_the_models_run(
    fake_torch: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    fake_torch()
    assert main(["doctor"]) == 0
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["PyTorch"].strip() == "2.11.0+cu130, CUDA 13.0"
    assert rows["its models run"].strip() == "on the GPU: FAKE GPU 0"


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        (["fp8-canary"], "the models run on the GPU: FAKE GPU 0\n"),
        (["long-context-gpu"], "the models run on the GPU: FAKE GPU 0\n"),
        (["rag-pipeline"], "the models run on the GPU: FAKE GPU 0\n"),
        (["max-rate"], ""),
        (["fp8-canary", "--url", "grpc://127.0.0.1:8001"], ""),
    ],
    ids=["operation of two builds", "long context", "ensemble", "tiny", "a server of its own"],
)
def test_a_run_says_where_its_models_run(
    fake_torch: Fake,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    scenario: list[str],
    said: str,
) -> None:
    fake_torch()
    for name in ("executed", "_operate"):
        monkeypatch.setattr(running, name, lambda *_: 0)
    assert main(["run", *scenario]) == 0
    assert capsys.readouterr().err == said


def test_a_large_model_is_not_built_for_a_cpu(
    fake_torch: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch()
    monkeypatch.setattr(gpu, "NODE", tmp_path / "missing")
    with pytest.raises(UsageError, match="llama of shape 7b needs a GPU, on a CPU take smollm2, tiny, 1b: no NVIDIA"):
        build_repository(tmp_path / "models", {"llama": {1: {"shape": "7b"}}})
    assert not (tmp_path / "models").exists()


def test_this_process_never_imports_pytorch() -> None:
    """It takes seconds and hundreds of MB; whoever only asks what is here must not pay for them."""
    code = (
        "import sys; from harness.cli import main; main(['doctor']); main(['scenarios']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
