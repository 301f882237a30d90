"""From inputs to the bytes of a request, for every wire."""

from __future__ import annotations

from collections.abc import Sequence

from harness.load.payload.generate import generate
from harness.load.payload.kserve import grpc, http
from harness.load.payload.openai import openai
from harness.load.template import Template
from harness.tensors import Tensor
from harness.types import Arm, ModelInfo, Wire


def encode(wire: Wire, arm: Arm, model: ModelInfo, tensors: Sequence[Tensor]) -> Template:
    """HTTP wires: a whole HTTP/1.1 request. gRPC: a ModelInferRequest, without gRPC's five bytes in front.

    Raises UsageError if the inputs or the arm's headers cannot be sent so.
    """
    match wire:
        case "grpc" | "grpc-stream":
            return grpc(arm, model, tensors)
        case "http":
            return http(arm, model, tensors)
        case "generate" | "generate-stream":
            return generate(arm, model, tensors, stream=wire == "generate-stream")
        case "openai" | "openai-stream":
            return openai(arm, tensors, stream=wire == "openai-stream")
