"""The little model that conformance rows are measured with: a copy of this file is what the server runs.

Needs numpy and the Python backend, and nothing of this package. The request's SECONDS: how long it takes; -1: it is
answered with an error; -2: the model raises. It answers the version, and a number drawn when this version was
initialised: the same number later means that it was not initialised in between.
"""

from __future__ import annotations

import contextlib
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
        held = behaviour.get("held")
        # A folder that is gone: whoever wanted to let it go was interrupted, and has cleaned up.
        while held and folder.exists() and not (folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if behaviour.get("fails"):
            raise RuntimeError("told to fail in loading")
        self._decoupled = pb.using_decoupled_model_transaction_policy(json.loads(args["model_config"]))
        self._busy = folder / "busy"
        self._served = np.array([int(args["model_version"]), random.getrandbits(62)], np.int64)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        if not self._decoupled:
            return [self._answer(request) for request in requests]
        for request in requests:
            final = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL
            request.get_response_sender().send(self._answer(request), flags=final)
        return None

    def _answer(self, request: Any) -> Any:
        seconds = float(pb.get_input_tensor_by_name(request, "SECONDS").as_numpy()[0])
        if seconds == -2:
            raise RuntimeError("told to raise")
        if seconds < 0:
            return pb.InferenceResponse(output_tensors=[], error=pb.TritonError("told to fail"))
        if seconds:
            with contextlib.suppress(OSError):  # a repository that only the other side may write
                self._busy.touch()
            time.sleep(seconds)
        return pb.InferenceResponse(output_tensors=[pb.Tensor("SERVED", self._served)])
