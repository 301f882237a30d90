"""Where a model's instances are placed, and how much of a GPU its engine reserves: from its configuration. Pure.

Engines reserve their KV cache when they are loaded, so what they hold says nothing of what they use:

- vLLM takes `gpu_memory_utilization` (model.json of the version; 0.9 unless set, 0.92 in releases of 2026) of the whole
  GPU, and refuses to start where less is free (vllm/config/cache.py; vllm/v1/worker: "Free memory on device ... is less
  than desired GPU memory utilization"). `kv_cache_memory_bytes` replaces it.
- TensorRT-LLM takes `kv_cache_free_gpu_mem_fraction` (config.pbtxt; 0.9 unless set) of what is free once its weights
  are there, but no more than `max_tokens_in_paged_kv_cache` tokens (tensorrtllm_backend, docs/model_config.md).

Placement: vllm_backend, src/model.py (KIND_GPU, KIND_MODEL with GPU_DEVICE_IDS), and Triton's instance groups.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

VLLM, TENSORRT_LLM = "vLLM", "TensorRT-LLM"
UTILIZATION = "gpu_memory_utilization"
FRACTION = "kv_cache_free_gpu_mem_fraction"
TOKENS = "max_tokens_in_paged_kv_cache"
DEFAULT_SHARE = 0.9
ARGUMENTS = "model.json"
"""vLLM's own arguments, in the version's directory."""


@dataclass(frozen=True, slots=True)
class Engine:
    """`share` `of` the whole device, or of what is free once the weights are there; None where the size of the cache is
    set otherwise. `key` is the setting, `said` whether it is set or its default. `folder`: where its weights lie.
    """

    name: str
    key: str
    share: float | None
    of: Literal["device", "rest"]
    said: bool
    folder: str = ""

    def __str__(self) -> str:
        default = "" if self.said else ", its default"
        what = "of the whole GPU" if self.of == "device" else "of what its weights leave free"
        return f"{self.name}'s {self.key} {self.share:g}{default}, {what}"


def engine(config: Mapping[str, Any], arguments: Mapping[str, Any] | None) -> Engine | None:
    """None where nothing is reserved, or (`arguments`, of vLLM's model.json, were not seen) nobody knows how much."""
    if config.get("backend") == "vllm":
        if arguments is None:
            return None
        share = _number(arguments.get(UTILIZATION))
        fixed = arguments.get("kv_cache_memory_bytes") is not None
        return Engine(VLLM, UTILIZATION, None if fixed else share or DEFAULT_SHARE, "device", share is not None)
    if is_tensorrt_llm(config):
        share, tokens = _number(_parameter(config, FRACTION)), _number(_parameter(config, TOKENS))
        folder = _parameter(config, "gpt_model_path") or _parameter(config, "engine_dir")
        return Engine(
            TENSORRT_LLM, FRACTION, None if tokens else share or DEFAULT_SHARE, "rest", share is not None, folder
        )
    return None


def is_tensorrt_llm(config: Mapping[str, Any]) -> bool:
    """The C++ backend, or the same model in its Python one."""
    return config.get("backend") == "tensorrtllm" or bool(_parameter(config, "gpt_model_path"))


def gpus(config: Mapping[str, Any], arguments: Mapping[str, Any] | None, there: int) -> dict[int, int]:
    """How many instances each GPU of the server gets, by its number there; {}: they use the host's memory only.

    `there`: how many GPUs the server sees. Where several are used and none is named, they are the first.
    """
    if is_tensorrt_llm(config):
        named = _numbers(_parameter(config, "gpu_device_ids").replace(";", ","))
        return _counted(named or list(range(there)))
    found: list[int] = []
    for group in config.get("instance_group") or [{}]:
        kind, count = group.get("kind", "KIND_AUTO"), max(1, int(group.get("count") or 1))
        if kind == "KIND_CPU":
            continue
        if kind == "KIND_MODEL":
            found += count * _of_model(config, arguments or {}, there)
        else:
            found += count * ([int(number) for number in group.get("gpus") or ()] or list(range(there)))
    return _counted(found)


def instances(config: Mapping[str, Any]) -> int:
    """All of them, where they share one device."""
    return sum(max(1, int(group.get("count") or 1)) for group in config.get("instance_group") or [{}])


def placement_key(config: Mapping[str, Any], numbers: Sequence[int]) -> str:
    """The setting that puts the model on those GPUs."""
    listed = ",".join(map(str, numbers))
    if is_tensorrt_llm(config):
        return f'parameters gpu_device_ids: "{listed}"'
    if config.get("backend") == "vllm" and any(
        group.get("kind") == "KIND_MODEL" for group in config.get("instance_group") or ()
    ):
        return f'parameters GPU_DEVICE_IDS: "{listed}"'
    return f"instance_group gpus: [{listed}]"


def engine_arguments(repository: Path | None, model: str, version: int) -> dict[str, Any] | None:
    """What model.json of that version says; None where there is none, or it is not seen from here."""
    if repository is None:
        return None
    with suppress(OSError, ValueError):
        found = json.loads((repository / model / str(version) / ARGUMENTS).read_text())
        if isinstance(found, dict):
            return found
    return None


def _of_model(config: Mapping[str, Any], arguments: Mapping[str, Any], there: int) -> list[int]:
    """KIND_MODEL leaves the choice to the engine: it takes the first ones unless told otherwise."""
    size = 1
    for key in ("tensor_parallel_size", "pipeline_parallel_size"):
        size *= int(_number(arguments.get(key)) or 1)
    return _numbers(_parameter(config, "GPU_DEVICE_IDS")) or list(range(min(size, there)))


def _counted(numbers: list[int]) -> dict[int, int]:
    return {number: numbers.count(number) for number in sorted(set(numbers))}


def _parameter(config: Mapping[str, Any], name: str) -> str:
    """ "" also for a placeholder that nobody filled: the backends take their default then."""
    value = str((config.get("parameters") or {}).get(name, {}).get("string_value", "")).strip()
    return "" if value.startswith("${") else value


def _number(value: Any) -> float | None:
    """Above 0."""
    with suppress(TypeError, ValueError):
        number = float(value)
        return number if number > 0 else None
    return None


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    return [int(part) for part in parts if part.isdecimal()]
