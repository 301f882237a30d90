"""The bodies of inference over HTTP: KServe v2 with binary tensors, and Triton's generate extension.

ValueError, KeyError or TypeError where an answer is not what the protocol says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.tensors import Tensor, decode, encode
from harness.triton.answer import Answer
from harness.triton.transport import Refused

JSON_SIZE = "Inference-Header-Content-Length"


def binary_request(tensors: Sequence[Tensor]) -> tuple[bytes, dict[str, str]]:
    """Body and headers; the outputs are asked for in binary form too."""
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": {"binary_data_size": len(tensor.raw)},
        }
        for tensor in tensors
    ]
    head = json.dumps({"parameters": {"binary_data_output": True}, "inputs": inputs}).encode()
    return head + b"".join(tensor.raw for tensor in tensors), {JSON_SIZE: str(len(head))}


def binary_answer(body: bytes, headers: Mapping[str, str]) -> Answer:
    """Outputs without binary data (a proxy may have asked otherwise) are read from the JSON."""
    size = int(headers.get(JSON_SIZE, len(body)))
    head, offset = json.loads(body[:size]), size
    tensors = []
    for output in head["outputs"]:
        length = output.get("parameters", {}).get("binary_data_size")
        if length is None:
            raw = encode(output["datatype"], output["data"])
        else:
            raw, offset = body[offset : offset + length], offset + length
            if len(raw) != length:
                raise ValueError("it ends too early")
        tensors.append(Tensor(output["name"], output["datatype"], tuple(output["shape"]), raw))
    return Answer(int(head["model_version"]), tuple(tensors))


def generate_request(tensors: Sequence[Tensor]) -> dict[str, Any]:
    """A tensor of one element is a scalar, any other a flat list: the generate extension knows no shapes."""
    return {tensor.name: _value(tensor) for tensor in tensors}


def streamed_answers(text: str, outputs: Mapping[str, str]) -> list[Answer]:
    """All events of a stream; `outputs`: the datatype of each. Raises Refused for an error event."""
    answers = []
    for line in text.splitlines():
        if not line.startswith("data:"):
            continue
        event = json.loads(line.removeprefix("data:"))
        if "error" in event:
            raise Refused(str(event["error"]))
        tensors = []
        for name, value in event.items():
            if name in outputs:
                values = value if isinstance(value, list) else [value]
                tensors.append(Tensor(name, outputs[name], (len(values),), encode(outputs[name], values)))
        answers.append(Answer(int(event["model_version"]), tuple(tensors)))
    return answers


def _value(tensor: Tensor) -> Any:
    values = decode(tensor.datatype, tensor.raw)
    if tensor.datatype == "BYTES":
        values = [value.decode() for value in values]
    return values[0] if len(values) == 1 else values
