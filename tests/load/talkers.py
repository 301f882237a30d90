"""Models for a real Triton that have the inputs of its LLM backends and of nobody in particular.

`vllm` and `ensemble` name their tensors as vLLM's and TensorRT-LLM's backends do and say a prompt's words back, a chunk
a word; `every` gives back its inputs of every type.
"""

from __future__ import annotations

from pathlib import Path

from harness.embedded.repository import compile_models

TYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES",
)  # fmt: skip

_WORDS = """import json

import numpy as np
import triton_python_backend_utils as pb


def value(request, name, default=None):
    tensor = pb.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0]


class TritonPythonModel:
    def initialize(self, args):
        self.vllm = args["model_name"] == "vllm"

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            try:
                self.answer(request, sender)
            except Exception as error:
                sender.send(pb.InferenceResponse(error=pb.TritonError(repr(error))))
            sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def answer(self, request, sender):
        text = value(request, "text_input").decode()
        if self.vllm:
            sampling = json.loads(value(request, "sampling_parameters"))
            limit, greedy = sampling["max_tokens"], sampling["temperature"] == 0
        else:
            limit, greedy = int(value(request, "max_tokens")), value(request, "top_k") == 1
            assert value(request, "bad_words") == b""
        assert greedy
        words = [word + " " for word in text.split()]
        said = words[:limit]
        if "fail" in said:
            raise ValueError("told to fail")
        pieces = said if value(request, "stream", False) else ["".join(said)]
        for number, piece in enumerate(pieces, 1):
            if piece == "fail ":
                raise ValueError("told to fail")
            tensors = [pb.Tensor("text_output", np.array([piece.encode()], dtype=object))]
            if self.vllm:
                reason = ("length" if len(words) > limit else "stop") if number == len(pieces) else "None"
                tensors.append(pb.Tensor("finish_reason", np.array([reason.encode()], dtype=object)))
            for name, count in (("num_input_tokens", len(words)), ("num_output_tokens", len(piece.split()))):
                if value(request, "return_" + name, False):
                    tensors.append(pb.Tensor(name, np.array([count], dtype=np.uint32 if self.vllm else np.int32)))
            if not self.vllm:
                tensors = [pb.Tensor(t.name(), t.as_numpy().reshape(1, -1)) for t in tensors]
            sender.send(pb.InferenceResponse(tensors))
"""
_VLLM = """name: "vllm"
backend: "python"
model_transaction_policy { decoupled: true }
input [
  { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "stream" data_type: TYPE_BOOL dims: [ 1 ] optional: true },
  { name: "sampling_parameters" data_type: TYPE_STRING dims: [ 1 ] optional: true },
  { name: "exclude_input_in_output" data_type: TYPE_BOOL dims: [ 1 ] optional: true },
  { name: "return_finish_reason" data_type: TYPE_BOOL dims: [ 1 ] optional: true },
  { name: "return_num_input_tokens" data_type: TYPE_BOOL dims: [ 1 ] optional: true },
  { name: "return_num_output_tokens" data_type: TYPE_BOOL dims: [ 1 ] optional: true }
]
output [
  { name: "text_output" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "finish_reason" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "num_input_tokens" data_type: TYPE_UINT32 dims: [ 1 ] },
  { name: "num_output_tokens" data_type: TYPE_UINT32 dims: [ -1 ] }
]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
_ENSEMBLE = """name: "ensemble"
backend: "python"
max_batch_size: 4
model_transaction_policy { decoupled: true }
input [
  { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "max_tokens" data_type: TYPE_INT32 dims: [ 1 ] },
  { name: "bad_words" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "top_k" data_type: TYPE_INT32 dims: [ 1 ] optional: true },
  { name: "seed" data_type: TYPE_UINT64 dims: [ 1 ] optional: true },
  { name: "return_num_input_tokens" data_type: TYPE_BOOL dims: [ 1 ] optional: true },
  { name: "return_num_output_tokens" data_type: TYPE_BOOL dims: [ 1 ] optional: true },
  { name: "stream" data_type: TYPE_BOOL dims: [ 1 ] optional: true }
]
output [
  { name: "text_output" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "num_input_tokens" data_type: TYPE_INT32 dims: [ 1 ] },
  { name: "num_output_tokens" data_type: TYPE_INT32 dims: [ 1 ] }
]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
_EVERY = """import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb.InferenceResponse([pb.Tensor("OUT_" + t.name(), t.as_numpy()) for t in request.inputs()])
            for request in requests
        ]
"""


def build(repository: Path) -> None:
    tensors = [(name, "STRING" if name == "BYTES" else name) for name in TYPES]
    inputs = ", ".join(f'{{ name: "{name}" data_type: TYPE_{kind} dims: [ 2, -1 ] }}' for name, kind in tensors)
    outputs = ", ".join(f'{{ name: "OUT_{name}" data_type: TYPE_{kind} dims: [ 2, -1 ] }}' for name, kind in tensors)
    every = f'name: "every"\nbackend: "python"\ninput [ {inputs} ]\noutput [ {outputs} ]\n'
    every += "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
    for name, code, config in (("vllm", _WORDS, _VLLM), ("ensemble", _WORDS, _ENSEMBLE), ("every", _EVERY, every)):
        version = repository / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(code)
        (repository / name / "config.pbtxt").write_text(config)
        compile_models(version)
