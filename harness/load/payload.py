"""The bytes of each request, prepared once before the clock runs.

Building a request anew costs a Python client more than sending it. Only its id is added at send time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from tritonclient.grpc import service_pb2

from harness.errors import UsageError
from harness.load.spec import LoadSpec, host_of
from harness.tensors import Tensor, random_tensor, tensor
from harness.types import Arm, ArmName, ModelInfo

_ID_FIELD = b"\x1a"  # ModelInferRequest.id: field 3, length-delimited; protobuf lets fields come in any order


@dataclass(frozen=True, slots=True)
class HttpBody:
    """`body` is JSON of `json_size` bytes and then the tensors; it starts with "{" and holds no id yet."""

    body: bytes
    json_size: int


def can_compare(model: ModelInfo) -> bool:
    """Whether the model gives the top-k log-probabilities of its tokens."""
    outputs = {t.name for t in model.outputs}
    return any(t.name == "logprobs" for t in model.inputs) and {"token_ids", "topk_ids", "topk_logprobs"} <= outputs


def can_score(model: ModelInfo) -> bool:
    return can_compare(model) and any(t.name == "forced_ids" for t in model.inputs)


def generation(spec: LoadSpec, arm: ArmName, prompt: int) -> list[Tensor]:
    """The inputs of one request: a token model reads prompt number `prompt`, any other model seeded noise.

    Both arms get the same values. Raises UsageError where a required input of a token model is unknown.
    """
    model = spec.models[arm]
    if not model.is_token_model:
        rng = np.random.default_rng([spec.seed & (2**63 - 1), prompt])
        noise = [random_tensor(t, model.max_batch_size, rng) for t in model.inputs]
        given = _tensors(model, spec.arms[arm], {}, required=False)
        return [given.get(t.name, t) for t in noise]
    known: dict[str, Sequence[Any]] = {
        "text_input": [spec.prompts[prompt]],
        "max_tokens": [spec.max_tokens],
        "stream": [model.decoupled],
        "exclude_input_in_output": [True],
        "sampling_parameters": [json.dumps({"max_tokens": spec.max_tokens, "temperature": 0})],
    }
    if spec.logprobs_k and can_compare(model):
        known["logprobs"] = [spec.logprobs_k]
    return list(_tensors(model, spec.arms[arm], known).values())


def scoring(spec: LoadSpec, arm: ArmName, prompt: int, forced_ids: Sequence[int]) -> list[Tensor]:
    """The inputs of a request that scores given tokens after prompt number `prompt` instead of generating."""
    known: dict[str, Sequence[Any]] = {
        "text_input": [spec.prompts[prompt]],
        "forced_ids": forced_ids,
        "logprobs": [spec.logprobs_k],
        "stream": [False],
    }
    return list(_tensors(spec.models[arm], spec.arms[arm], known).values())


def _tensors(
    model: ModelInfo, arm: Arm, known: Mapping[str, Sequence[Any]], *, required: bool = True
) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for t in model.inputs:
        values = known.get(t.name)
        if t.name in arm.parameters:
            given = arm.parameters[t.name]
            values = list(given) if isinstance(given, list | tuple) else [given]
        if values is not None:
            made[t.name] = tensor(t, model.max_batch_size, values)
        elif required and not t.optional:
            raise UsageError(f"{model.name} needs the input {t.name}: give it in the arm's parameters")
    return made


def parameters(model: ModelInfo, arm: Arm) -> dict[str, Any]:
    """The arm's parameters that are not inputs of the model: they travel as parameters of the request."""
    inputs = {t.name for t in model.inputs}
    return {name: value for name, value in arm.parameters.items() if name not in inputs}


def encode_grpc(model: ModelInfo, arm: Arm, tensors: Sequence[Tensor]) -> bytes:
    """A serialized ModelInferRequest without an id."""
    request = service_pb2.ModelInferRequest(
        model_name=arm.model, model_version="" if arm.version is None else str(arm.version)
    )
    for name, value in parameters(model, arm).items():
        _set(request.parameters[name], value)
    if model.decoupled:
        # Without it the end of a decoupled answer cannot be seen while the stream is open.
        request.parameters["triton_enable_empty_final_response"].bool_param = True
    for t in tensors:
        request.inputs.add(name=t.name, datatype=t.datatype, shape=t.shape)
        request.raw_input_contents.append(t.raw)
    return bytes(request.SerializeToString())


def with_id(message: bytes, request_id: str) -> bytes:
    """`message` with its id: at most 127 bytes, so that the length is one byte."""
    name = request_id.encode()
    return b"".join((message, _ID_FIELD, bytes((len(name),)), name))


def encode_http(model: ModelInfo, arm: Arm, tensors: Sequence[Tensor]) -> HttpBody:
    """The body of a KServe v2 infer request with binary tensors, and with binary outputs asked for."""
    head = {
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
    text = json.dumps(head).encode()
    return HttpBody(text + b"".join(t.raw for t in tensors), len(text))


def http_message(arm: Arm, payload: HttpBody, request_id: str) -> bytes:
    """One HTTP/1.1 request with its id, ready for the socket."""
    name = b'{"id":"%s",' % request_id.encode()
    extra = len(name) - 1
    return b"".join(
        (
            _head(arm),
            b"Inference-Header-Content-Length: %d\r\n" % (payload.json_size + extra),
            b"Content-Length: %d\r\n\r\n" % (len(payload.body) + extra),
            name,
            memoryview(payload.body)[1:],
        )
    )


def _head(arm: Arm) -> bytes:
    base = arm.url.partition("://")[2].partition("/")[2].strip("/")
    path = f"{'/' + base if base else ''}/v2/models/{quote(arm.model, safe='')}"
    if arm.version is not None:
        path += f"/versions/{arm.version}"
    lines = [f"POST {path}/infer HTTP/1.1", f"Host: {host_of(arm.url)}"]
    lines += ["Content-Type: application/octet-stream", "User-Agent: triton-canary"]
    for name, value in arm.headers.items():
        if "\r" in f"{name}{value}" or "\n" in f"{name}{value}":
            raise UsageError(f"the header {name!r} holds a line break")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def _set(parameter: Any, value: Any) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = str(value)
