"""Model repositories on disk; no server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.embedded import add_version, build_repository, change_settings, gpu, repository
from harness.embedded.rag.ensemble import STEPS
from harness.embedded.tiny_settings import settle
from harness.errors import UsageError
from harness.triton import read_config


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is on a CPU, also where there is a GPU; tests/embedded/test_gpu_machine.py has that one."""
    monkeypatch.setattr(gpu, "NODE", Path("/nowhere/nvidiactl"))


def test_a_repository_is_what_triton_expects(tmp_path: Path) -> None:
    build_repository(tmp_path, {"smollm2": {1: "fp16", 2: "fp8"}, "tiny": {3: {"delay_ms": 1}}})
    config = read_config(tmp_path / "smollm2" / "config.pbtxt")
    assert config["version_policy"] == {"specific": {"versions": ["1", "2"]}}
    assert config["model_transaction_policy"] == {"decoupled": True}
    assert read_config(tmp_path / "tiny" / "config.pbtxt")["version_policy"]["specific"]["versions"] == ["3"]
    assert json.loads((tmp_path / "smollm2/2/build.json").read_text()) == {"build": "fp8"}
    assert json.loads((tmp_path / "tiny/3/build.json").read_text()) == {"build": {"delay_ms": 1}}
    assert "harness.embedded.smollm2.model" in (tmp_path / "smollm2/1/model.py").read_text()


def test_the_models_in_pytorch_are_known_everywhere(tmp_path: Path) -> None:
    build_repository(tmp_path, {"llama": {1: "fp16", 2: {"shape": "1b", "kv": "fp8"}}, "smollm2": {1: "fp16"}})
    build_repository(tmp_path, {"llama_batched": {1: {"shape": "tiny"}}, "smollm2_batched": {1: "fp16"}})
    one, other = (read_config(tmp_path / model / "config.pbtxt") for model in ("llama", "smollm2"))
    for key in ("input", "output", "instance_group", "model_transaction_policy"):
        assert one[key] == other[key]
    assert one["instance_group"] == [{"count": 1, "kind": "KIND_CPU"}]
    one, other = (read_config(tmp_path / model / "config.pbtxt") for model in ("llama_batched", "smollm2_batched"))
    for key in ("input", "output", "instance_group", "dynamic_batching"):
        assert one[key] == other[key]
    assert (one["max_batch_size"], other["max_batch_size"]) == (64, 4)
    assert json.loads((tmp_path / "llama/2/build.json").read_text()) == {"build": {"shape": "1b", "kv": "fp8"}}
    assert "from harness.embedded.llama.model import TritonPythonModel" in (tmp_path / "llama/1/model.py").read_text()


def test_real_weights_in_pytorch_have_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "weights_available", lambda: "the weights are not installed")
    build_repository(tmp_path, {"llama": {1: {"shape": "tiny"}}})
    with pytest.raises(UsageError, match="the weights are not installed"):
        add_version(tmp_path, "llama", 2, {"shape": "smollm2"})


def test_a_version_is_added_whole_and_the_config_stays(tmp_path: Path) -> None:
    build_repository(tmp_path, {"tiny": {1: "fp16"}})
    before = (tmp_path / "tiny/config.pbtxt").read_text()
    add_version(tmp_path, "tiny", 2, "slow")
    assert sorted(f.name for f in (tmp_path / "tiny/2").iterdir()) == ["__pycache__", "build.json", "model.py"]
    assert (tmp_path / "tiny/config.pbtxt").read_text() == before
    assert [f.name for f in tmp_path.iterdir()] == ["tiny"]


def test_a_failed_version_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_repository(tmp_path, {"tiny": {1: "fp16"}})

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        add_version(tmp_path, "tiny", 2, "slow")
    assert [f.name for f in tmp_path.iterdir()] == ["tiny"]
    assert not (tmp_path / "tiny/2").exists()


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"smollm2": {1: "fp4"}}, "unknown build 'fp4' of smollm2: known are fp16, same, fp8"),
        ({"tiny": {1: "fp8"}}, "unknown build 'fp8' of tiny: known are fp16, same, slow, erring"),
        ({"gpt": {1: "fp16"}}, "unknown model 'gpt': known are smollm2, smollm2_batched, llama, llama_batched, tiny"),
        ({"llama": {1: "kv4"}}, "unknown build 'kv4' of llama: known are fp16, same, fp8"),
        ({"llama_batched": {1: {"kv": "fp4"}}}, "setting 'kv' of llama is one of fp16, fp8, fp32"),
        ({"llama": {1: {"delay_ms": 1}}}, "unknown setting 'delay_ms' of llama"),
        ({"smollm2": {1: {"delay_ms": 1}}}, "not a mapping"),
        ({"tiny": {1: {"delay": 1}}}, "unknown setting 'delay' of tiny: known are crash, delay_ms"),
        ({"tiny": {1: {"fail": 1.1}}}, "share from 0 to 1"),
        ({"tiny": {1: {"crash": 1}}}, "true or false"),
        ({"tiny": {1: {"delay_ms": -1}}}, "cannot be negative"),
        ({"tiny": {0: "fp16"}}, "whole number from 1"),
        ({"rag_v2": {2: "slow"}}, "rag_v2 has one configuration for all versions, so it has only version 1"),
        ({"rag_v2": {1: "fp4"}}, "unknown build 'fp4' of rag_v2: known are full, same, trimmed"),
        ({"rag_v2": {1: {"llm": "fp4"}}}, "unknown build 'fp4' of smollm2"),
        ({"rag_v2": {1: {"search": "full"}}}, "a build of rag_v2 is that of its embedding, or of its steps"),
    ],
)
def test_what_cannot_be_built_is_named_and_nothing_is_written(
    tmp_path: Path, models: dict[str, dict[int, str]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build_repository(tmp_path / "new", models)
    assert not (tmp_path / "new").exists()


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    build_repository(tmp_path, {"tiny": {1: "fp16"}})
    with pytest.raises(UsageError, match="already"):
        add_version(tmp_path, "tiny", 1, "slow")
    with pytest.raises(UsageError, match="already"):
        build_repository(tmp_path, {"tiny": {1: "slow"}})
    with pytest.raises(UsageError, match="no model smollm2"):
        add_version(tmp_path, "smollm2", 1, "fp16")
    with pytest.raises(UsageError, match="unknown setting"):
        change_settings(tmp_path, 1, dely_ms=3)
    with pytest.raises(UsageError, match="'hold_mb' of tiny is a whole number of MiB"):
        change_settings(tmp_path, 1, hold_mb=0.5)
    with pytest.raises(UsageError, match="'heavy' of tiny is a share"):
        change_settings(tmp_path, 1, heavy=2)
    with pytest.raises(UsageError, match="version 7"):
        change_settings(tmp_path, 7, delay_ms=3)


def test_changes_lie_on_top_of_the_build() -> None:
    assert settle("slow", {"fail": 0.5}).delay_ms == 6.5
    assert settle({"hold_mb": 64, "limit_mb": 32, "heavy": 0.4}).hold_mb == 64
    assert settle({"delay_ms": 1}, {"delay_ms": 2}).delay_ms == 2


@pytest.mark.embedding
def test_ensembles_share_their_steps_and_pin_every_version(tmp_path: Path) -> None:
    def versions(model: str) -> list[int]:
        return sorted(int(folder.name) for folder in (tmp_path / model).iterdir() if folder.is_dir())

    def pinned(ensemble: str) -> dict[str, int]:
        text = (tmp_path / ensemble / "config.pbtxt").read_text()
        steps = re.findall(r'model_name: "(\w+)" model_version: (-?\d+)', text)
        return {model: int(version) for model, version in steps}

    build_repository(tmp_path, {"rag_v1": {1: "full"}})
    assert pinned("rag_v1") == dict.fromkeys(STEPS, 1)
    assert [versions(step) for step in STEPS] == [[1]] * 5

    build_repository(tmp_path, {"rag_v2": {1: {"embedding": "int8", "llm": "fp8"}}})
    assert pinned("rag_v2") == {**dict.fromkeys(STEPS, 1), "rag_embedding": 2, "smollm2": 2}
    assert {step: versions(step) for step in STEPS if versions(step) != [1]} == {
        "rag_embedding": [1, 2],
        "smollm2": [1, 2],
    }
    assert "versions: [1, 2]" in (tmp_path / "rag_embedding" / "config.pbtxt").read_text()
    assert json.loads((tmp_path / "rag_embedding" / "2" / "build.json").read_text()) == {"build": "int8"}
    assert json.loads((tmp_path / "smollm2" / "2" / "build.json").read_text()) == {"build": "fp8"}
    assert "count: 2" in (tmp_path / "smollm2" / "config.pbtxt").read_text(), "a pair's requests do not wait"
