"""From Triton's metadata and configuration of a model to `ModelInfo`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.types import ModelInfo, TensorSpec


def model_info(metadata: Mapping[str, Any], config: Mapping[str, Any], served: tuple[int, ...]) -> ModelInfo:
    """Metadata knows names, types and shapes; the configuration what is optional, batched or decoupled."""
    batched = int(config.get("max_batch_size", 0)) > 0
    optional = {tensor["name"] for tensor in config.get("input", ()) if tensor.get("optional")}
    return ModelInfo(
        name=str(metadata["name"]),
        platform=str(metadata.get("platform") or config.get("backend") or ""),
        versions=served,
        inputs=tuple(_tensor(tensor, batched, optional) for tensor in metadata.get("inputs", ())),
        outputs=tuple(_tensor(tensor, batched, optional) for tensor in metadata.get("outputs", ())),
        max_batch_size=int(config.get("max_batch_size", 0)),
        decoupled=decoupled(config),
    )


def decoupled(config: Mapping[str, Any]) -> bool:
    """Whether the model may answer a request any number of times."""
    return bool(config.get("model_transaction_policy", {}).get("decoupled", False))


def _tensor(tensor: Mapping[str, Any], batched: bool, optional: set[str]) -> TensorSpec:
    shape = tuple(int(size) for size in tensor.get("shape", ()))
    name = str(tensor["name"])
    # Metadata puts the batch dimension first, as -1.
    return TensorSpec(name, str(tensor["datatype"]), shape[1:] if batched else shape, name in optional)
