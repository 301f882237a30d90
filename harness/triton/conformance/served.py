"""The little model that conformance rows are measured with: a copy of this file is what the server runs.

Needs numpy and the Python backend, and nothing of this package. The request's SECONDS: how long it takes; below 0 it
fails. It answers the version, and a number drawn when this version was initialised: the same number later means that
it was not initialised in between.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

HELD_AT_MOST_S = 120.0


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        behaviour = json.loads((folder / "behaviour.json").read_text())
        deadline = time.monotonic() + HELD_AT_MOST_S
        while behaviour.get("held") and not (folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if behaviour.get("fails"):
            raise RuntimeError("told to fail in loading")
        self._busy = folder / "busy"
        self._served = np.array([int(args["model_version"]), random.getrandbits(62)], np.int64)

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        seconds = float(pb.get_input_tensor_by_name(request, "SECONDS").as_numpy()[0])
        if seconds < 0:
            return pb.InferenceResponse(output_tensors=[], error=pb.TritonError("told to fail"))
        if seconds:
            self._busy.touch()
            time.sleep(seconds)
        return pb.InferenceResponse(output_tensors=[pb.Tensor("SERVED", self._served)])
