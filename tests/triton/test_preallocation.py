"""What engines reserve and where instances go: from configurations as vLLM's and TensorRT-LLM's users have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.triton import read_config
from harness.triton.preallocation import engine, engine_arguments, gpus, instances, placement_key

# In the form of vllm_backend's samples/model_repository/vllm_model.
VLLM = """
name: "llm"
backend: "vllm"
max_batch_size: 0
model_transaction_policy { decoupled: True }
instance_group [ { count: 1 kind: KIND_MODEL } ]
"""
MODEL_JSON = {"model": "facebook/opt-125m", "disable_log_requests": True, "gpu_memory_utilization": 0.5}

# In the form of tensorrtllm_backend's all_models/inflight_batcher_llm/tensorrt_llm, partly filled in.
TRTLLM = """
name: "tensorrt_llm"
backend: "tensorrtllm"
max_batch_size: 8
instance_group [ { count: 1 kind : KIND_CPU } ]
parameters: { key: "gpt_model_path" value: { string_value: "/engines/1" } }
parameters: { key: "kv_cache_free_gpu_mem_fraction" value: { string_value: "FRACTION" } }
parameters: { key: "max_tokens_in_paged_kv_cache" value: { string_value: "TOKENS" } }
parameters: { key: "gpu_device_ids" value: { string_value: "DEVICES" } }
"""


def config(tmp_path: Path, text: str) -> dict[str, Any]:
    file = tmp_path / "config.pbtxt"
    file.write_text(text)
    return read_config(file)


def trtllm(tmp_path: Path, fraction: str = "${f}", tokens: str = "${t}", devices: str = "${d}") -> dict[str, Any]:
    return config(tmp_path, TRTLLM.replace("FRACTION", fraction).replace("TOKENS", tokens).replace("DEVICES", devices))


def test_vllm_takes_a_share_of_the_whole_gpu(tmp_path: Path) -> None:
    found = engine(config(tmp_path, VLLM), MODEL_JSON)
    assert found is not None
    assert (found.share, found.of, found.said) == (0.5, "device", True)
    assert str(found) == "vLLM's gpu_memory_utilization 0.5, of the whole GPU"
    default = engine(config(tmp_path, VLLM), {"model": "m"})
    assert default is not None
    assert (default.share, default.said) == (0.9, False)
    assert "its default" in str(default)


def test_what_vllm_takes_is_not_known_without_its_arguments_or_where_the_cache_has_a_size(tmp_path: Path) -> None:
    assert engine(config(tmp_path, VLLM), None) is None
    fixed = engine(config(tmp_path, VLLM), {**MODEL_JSON, "kv_cache_memory_bytes": 2**33})
    assert fixed is not None
    assert fixed.share is None


def test_tensorrt_llm_takes_a_share_of_the_rest(tmp_path: Path) -> None:
    found = engine(trtllm(tmp_path, "0.4"), None)
    assert found is not None
    assert (found.share, found.of, found.said, found.folder) == (0.4, "rest", True, "/engines/1")
    unfilled = engine(trtllm(tmp_path), None)
    assert unfilled is not None
    assert (unfilled.share, unfilled.said) == (0.9, False), "a template that nobody filled has the default"
    limited = engine(trtllm(tmp_path, "0.4", tokens="20000"), None)
    assert limited is not None
    assert limited.share is None, "so many tokens and no more: it does not grow with what is free"


def test_other_backends_reserve_nothing() -> None:
    assert engine({"backend": "onnxruntime"}, None) is None
    assert engine({"backend": "python"}, {"gpu_memory_utilization": 0.5}) is None


@pytest.mark.parametrize(
    ("groups", "there", "expected"),
    [
        ("[ { count: 2 kind: KIND_GPU gpus: [ 1, 3 ] } ]", 4, {1: 2, 3: 2}),
        ("[ { count: 1 kind: KIND_GPU gpus: [ 0 ] }, { count: 2 kind: KIND_GPU gpus: [ 0 ] } ]", 4, {0: 3}),
        ("[ { count: 1 kind: KIND_GPU } ]", 2, {0: 1, 1: 1}),
        ("[ { count: 3 kind: KIND_CPU } ]", 2, {}),
        ("[ { kind: KIND_MODEL } ]", 2, {0: 1}),
        ("[ ]", 2, {0: 1, 1: 1}),
        ("[ ]", 0, {}),
    ],
)
def test_instances_by_gpu(tmp_path: Path, groups: str, there: int, expected: dict[int, int]) -> None:
    text = f'name: "m" backend: "onnxruntime" instance_group {groups}'
    assert gpus(config(tmp_path, text), None, there) == expected


def test_engines_choose_their_gpus_by_themselves(tmp_path: Path) -> None:
    vllm = config(tmp_path, VLLM)
    assert gpus(vllm, {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, 8) == {0: 1, 1: 1, 2: 1, 3: 1}
    named = VLLM + 'parameters: { key: "GPU_DEVICE_IDS" value: { string_value: "2, 3" } }'
    assert gpus(config(tmp_path, named), {"tensor_parallel_size": 2}, 8) == {2: 1, 3: 1}
    assert gpus(trtllm(tmp_path, devices="0,1;2,3"), None, 8) == {0: 1, 1: 1, 2: 1, 3: 1}
    assert gpus(trtllm(tmp_path), None, 2) == {0: 1, 1: 1}, "all that are visible, although its group is of KIND_CPU"


def test_the_setting_that_moves_a_model(tmp_path: Path) -> None:
    assert placement_key({"backend": "onnxruntime"}, [1]) == "instance_group gpus: [1]"
    assert placement_key(config(tmp_path, VLLM), [1]) == 'parameters GPU_DEVICE_IDS: "1"'
    assert placement_key(trtllm(tmp_path), [2, 3]) == 'parameters gpu_device_ids: "2,3"'


def test_instances_on_the_host() -> None:
    assert instances({"instance_group": [{"count": 4, "kind": "KIND_CPU"}]}) == 4
    assert instances({}) == 1


def test_a_versions_arguments(tmp_path: Path) -> None:
    folder = tmp_path / "llm" / "2"
    folder.mkdir(parents=True)
    assert engine_arguments(tmp_path, "llm", 2) is None
    (folder / "model.json").write_text(json.dumps(MODEL_JSON))
    assert engine_arguments(tmp_path, "llm", 2) == MODEL_JSON
    assert engine_arguments(None, "llm", 2) is None
    (folder / "model.json").write_text("{")
    assert engine_arguments(tmp_path, "llm", 2) is None, "the load will say what is wrong with it"
