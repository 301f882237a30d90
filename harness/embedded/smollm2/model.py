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

from harness.embedded.faults import BadRequest, errs
from harness.embedded.guard import end_with_parent
from harness.embedded.runtime import WEIGHTS_INSTALL, weights_file
from harness.embedded.smollm2.engine import Engine
from harness.embedded.smollm2.wire import Asked, Step, asked, end, joined, response


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
        number, self._served = self._served, self._served + 1
        problem = ""
        try:
            if self._erring and errs(number):
                raise BadRequest("the build erring fails this request")
            self._answer(asked(request), lambda step: sender.send(response(step)), sender.is_cancelled)
        except BadRequest as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001  an error of one request must not end the instance
            problem = f"{type(error).__name__}: {error}"
        end(sender, problem)

    def _answer(self, wish: Asked, send: Callable[[Step], None], stop: Callable[[], bool]) -> None:
        if wish.forced is not None:
            scored = self._engine.score(wish.text, wish.forced, wish.k, stop)
            if scored is not None:
                send(scored)
            return
        steps = self._engine.generate(wish.text, wish.max_tokens, wish.k, stop)
        if wish.stream:
            for step in steps:
                send(step)
            return
        whole = list(steps)
        if whole and whole[-1].finish_reason:
            send(joined(whole))
