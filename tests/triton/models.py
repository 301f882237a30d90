"""Further models for these tests: ensembles, two that answer many times, one without bytecode."""

from __future__ import annotations

from pathlib import Path

_ENSEMBLE = """name: "{name}"
platform: "ensemble"
input [ {{ name: "INPUT" data_type: TYPE_FP32 dims: [ 16 ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [ 16 ] }} ]
ensemble_scheduling {{ step [ {{
  model_name: "{step}" model_version: {version}
  input_map {{ key: "INPUT" value: "INPUT" }} output_map {{ key: "OUTPUT" value: "OUTPUT" }}
}} ] }}
"""

_MANY = """import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(int(pb.get_input_tensor_by_name(request, "N").as_numpy()[0])):
                if number == 5:
                    sender.send(pb.InferenceResponse(error=pb.TritonError("many was told to fail")))
                    break
                pair = pb.Tensor("PAIR", np.array([[number, number + 1]], dtype=np.int32))
                text = pb.Tensor("TEXT", np.array([f"w{number} ".encode()], dtype=object))
                sender.send(pb.InferenceResponse([pair, text]))
            sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

_MANY_CONFIG = """name: "many"
backend: "python"
model_transaction_policy { decoupled: true }
input [ { name: "N" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "PAIR" data_type: TYPE_INT32 dims: [ 1, 2 ] }, { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""

_PARROT = """import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            text = pb.get_input_tensor_by_name(request, "text_input").as_numpy()[0].decode()
            limit = int(pb.get_input_tensor_by_name(request, "max_tokens").as_numpy()[0])
            sender = request.get_response_sender()
            for word in text.split()[:limit]:
                sender.send(pb.InferenceResponse([pb.Tensor("text_output", np.array([word.encode()], dtype=object))]))
            sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

_PARROT_CONFIG = """name: "parrot"
backend: "python"
model_transaction_policy { decoupled: true }
input [
  { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "max_tokens" data_type: TYPE_INT32 dims: [ 1 ] },
  { name: "stream" data_type: TYPE_BOOL dims: [ 1 ] optional: true },
  { name: "bad_words" data_type: TYPE_STRING dims: [ -1 ] optional: true }
]
output [ { name: "text_output" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""

_PLAIN = """import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        values = np.array({values}, dtype=np.float32)
        return [pb.InferenceResponse([pb.Tensor("OUTPUT", values)]) for _ in requests]
"""

_PLAIN_CONFIG = """name: "{name}"
backend: "python"
input [ {{ name: "INPUT" data_type: TYPE_FP32 dims: [ 2 ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [ 2 ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
"""


def ensemble(repository: Path, name: str, step: str, version: int = -1) -> None:
    """One step on `step`; `version` -1 is whichever is the highest."""
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(_ENSEMBLE.format(name=name, step=step, version=version))


def streaming(repository: Path) -> None:
    """`many`: N answers to one request, of which the sixth would be an error. `parrot`: a token model's tensors."""
    for name, code, config in (("many", _MANY, _MANY_CONFIG), ("parrot", _PARROT, _PARROT_CONFIG)):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / "model.py").write_text(code)
        (repository / name / "config.pbtxt").write_text(config)


def constant(repository: Path, name: str, versions: dict[int, str]) -> None:
    """Each version answers everything with its values; no bytecode is there."""
    for version, values in versions.items():
        (repository / name / str(version)).mkdir(parents=True)
        (repository / name / str(version) / "model.py").write_text(_PLAIN.format(values=values))
    (repository / name / "config.pbtxt").write_text(_PLAIN_CONFIG.format(name=name))
