"""KServe v2 requests with binary tensors: ModelInferRequest for gRPC, JSON and then the tensors for HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tritonclient.grpc import service_pb2

from harness.load.payload.head import head, model_path
from harness.load.payload.llm import parameters
from harness.load.template import REQUEST_ID, Template
from harness.tensors import Tensor
from harness.types import Arm, ModelInfo


def grpc(arm: Arm, model: ModelInfo, tensors: Sequence[Tensor]) -> Template:
    """A serialized ModelInferRequest, without gRPC's prefix."""
    request = service_pb2.ModelInferRequest(
        model_name=arm.model, model_version="" if arm.version is None else str(arm.version), id=REQUEST_ID
    )
    for name, value in parameters(model, arm).items():
        _set(request.parameters[name], value)
    if model.decoupled:
        # Without it the end of a decoupled answer cannot be seen while the stream is open.
        request.parameters["triton_enable_empty_final_response"].bool_param = True
    for t in tensors:
        request.inputs.add(name=t.name, datatype=t.datatype, shape=t.shape)
        request.raw_input_contents.append(t.raw)
    return Template.of(bytes(request.SerializeToString()))


def http(arm: Arm, model: ModelInfo, tensors: Sequence[Tensor]) -> Template:
    """A whole HTTP/1.1 request that asks for binary outputs."""
    text = json.dumps(
        {
            "id": REQUEST_ID,
            "parameters": {**parameters(model, arm), "binary_data_output": True},
            "inputs": [
                {
                    "name": t.name,
                    "datatype": t.datatype,
                    "shape": list(t.shape),
                    "parameters": {"binary_data_size": len(t.raw)},
                }
                for t in tensors
            ],
        }
    ).encode()
    body = text + b"".join(t.raw for t in tensors)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return Template.of(head(arm, model_path(arm, "infer"), len(body), headers) + body)


def _set(parameter: Any, value: Any) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = str(value)
