"""A real Triton with an identity model: the cheapest there is, so that the generator's own cost shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.embedded import EmbeddedServer
from harness.types import ModelInfo, TensorSpec

MODEL = ModelInfo(
    "identity", "python", (1,), (TensorSpec("INPUT", "FP32", (16,)),), (TensorSpec("OUTPUT", "FP32", (16,)),), 0, False
)
_CONFIG = """name: "identity" backend: "python" max_batch_size: 0
input [{name: "INPUT" data_type: TYPE_FP32 dims: [16]}]
output [{name: "OUTPUT" data_type: TYPE_FP32 dims: [16]}]
instance_group [{count: 1 kind: KIND_CPU}]
"""
_CODE = '''"""Runs inside Triton."""
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb.get_input_tensor_by_name(request, "INPUT").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("OUTPUT", values)]) for values in inputs]
'''


@contextmanager
def identity_server(folder: Path) -> Iterator[EmbeddedServer]:
    version = folder / "models" / MODEL.name / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(_CONFIG)
    (version / "model.py").write_text(_CODE)
    with EmbeddedServer(folder / "models", folder / "server.log") as server:
        server.start(load={MODEL.name: [1]})
        yield server
