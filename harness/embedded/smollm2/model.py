"""SmolLM2 as a decoupled Python-backend model. Runs inside Triton, one instance a version.

Requests are served one after another. A request that nobody waits for any more stops at the next token. What
is wrong with a request comes back as a Triton error; the instance goes on.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.embedded.faults import BadRequest, errs
from harness.embedded.guard import end_with_parent
from harness.embedded.runtime import WEIGHTS_INSTALL, weights_file
from harness.embedded.smollm2.engine import Engine, Step


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        end_with_parent()
        folder = Path(args["model_repository"]) / args["model_version"]
        build: str = json.loads((folder / "build.json").read_text())["build"]
        weights = weights_file()
        if weights is None:
            raise RuntimeError(f"the weights of SmolLM2-135M-Instruct are not installed: {WEIGHTS_INSTALL}")
        self._engine = Engine(weights, build)
        ctypes.CDLL(None).malloc_trim(0)  # what loading needed and glibc kept: 66 MB
        self._erring = build == "erring"
        self._served = 0

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            self._serve(request, request.get_response_sender())

    def _serve(self, request: Any, sender: Any) -> None:
        import triton_python_backend_utils as pb

        number, self._served = self._served, self._served + 1
        problem = ""
        try:
            if self._erring and errs(number):
                raise BadRequest("the build erring fails this request")
            self._answer(request, lambda step: sender.send(_response(step)), sender.is_cancelled)
        except BadRequest as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001  an error of one request must not end the instance
            problem = f"{type(error).__name__}: {error}"
        final = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        if problem:
            sender.send(pb.InferenceResponse(output_tensors=[], error=pb.TritonError(problem)), flags=final)
        else:
            sender.send(flags=final)

    def _answer(self, request: Any, send: Callable[[Step], None], stop: Callable[[], bool]) -> None:
        text = _text(request)
        max_tokens = int(_scalar(request, "max_tokens", 16))
        k = int(_scalar(request, "logprobs", 0))
        forced = _values(request, "forced_ids")
        if forced is not None:
            scored = self._engine.score(text, [int(i) for i in forced], k, stop)
            if scored is not None:
                send(scored)
            return
        steps = self._engine.generate(text, max_tokens, k, stop)
        if bool(_scalar(request, "stream", True)):
            for step in steps:
                send(step)
            return
        whole = list(steps)
        if whole and whole[-1].finish_reason:
            send(_joined(whole))


def _joined(steps: list[Step]) -> Step:
    return Step(
        "".join(step.text for step in steps),
        np.concatenate([step.token_ids for step in steps]),
        np.concatenate([step.topk_ids for step in steps]),
        np.concatenate([step.topk_logprobs for step in steps]),
        steps[-1].finish_reason,
        steps[-1].input_tokens,
    )


def _response(step: Step) -> Any:
    import triton_python_backend_utils as pb

    tensors = {
        "text_output": np.array([step.text.encode()], np.object_),
        "token_ids": step.token_ids,
        "topk_ids": step.topk_ids,
        "topk_logprobs": step.topk_logprobs,
        "finish_reason": np.array([step.finish_reason.encode()], np.object_),
        "input_tokens": np.array([step.input_tokens], np.int32),
    }
    # Triton has no tensors without elements: nothing asked for, nothing sent
    return pb.InferenceResponse([pb.Tensor(name, value) for name, value in tensors.items() if value.size])


def _values(request: Any, name: str) -> Any:
    import triton_python_backend_utils as pb

    tensor = pb.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)


def _scalar(request: Any, name: str, default: int | bool) -> Any:
    values = _values(request, name)
    if values is None:
        return default
    if len(values) != 1:
        raise BadRequest(f"{name} must hold one value, not {len(values)}")
    return values[0]


def _text(request: Any) -> str:
    raw = _scalar(request, "text_input", False)
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:
        raise BadRequest("text_input is not UTF-8") from None
