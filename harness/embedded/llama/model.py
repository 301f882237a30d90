"""`llama`, and `smollm2` on a GPU: decoupled Python-backend models, answers streamed. Run inside Triton.

execute() hands each request to the engine and returns: one instance serves many at a time. A request that nobody waits
for any more leaves at the next token. What is wrong with a request comes back as a Triton error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.embedded.faults import BadRequest
from harness.embedded.guard import end_with_parent
from harness.embedded.llama.settings import SMOLLM2, LlamaSettings, settle_llama
from harness.embedded.smollm2.wire import Step, asked, end, joined, response

WIDENED = 8


class TritonPythonModel:
    """`llama`: build.json holds a build's name or the settings themselves (settings.py)."""

    def initialize(self, args: dict[str, str]) -> None:
        end_with_parent()
        # here: Triton imports this file twice, first only to look at it, and PyTorch takes seconds
        from harness.embedded.llama.engine import Engine

        self._engine = Engine(self._settled(build_of(args)), device_of(args))

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            self._serve(request, request.get_response_sender())

    def finalize(self) -> None:
        self._engine.close()

    def _settled(self, build: Any) -> LlamaSettings:
        return settle_llama(build)

    def _serve(self, request: Any, sender: Any) -> None:
        steps: list[Step] = []

        def send(step: Step) -> None:
            if wish.stream or step.finish_reason == "forced":
                sender.send(response(step))
                return
            steps.append(step)
            if step.finish_reason:
                sender.send(response(joined(steps)))

        try:
            wish = asked(request)
            self._engine.submit(wish, send, sender.is_cancelled, lambda problem: end(sender, problem))
        except BadRequest as error:
            end(sender, str(error))


class SmolLM2(TritonPythonModel):
    """`smollm2` on a GPU: weights, builds, inputs and outputs as on a CPU, and the work of 5.8 billion weights.

    By itself a step of 135 million is bound by how long each kernel takes to begin, whatever it computes in.
    """

    def _settled(self, build: Any) -> LlamaSettings:
        return settle_llama(build, shape=SMOLLM2, widened=WIDENED)


def build_of(args: dict[str, str]) -> Any:
    """What build.json in the version's folder says."""
    folder = Path(args["model_repository"]) / args["model_version"]
    return json.loads((folder / "build.json").read_text())["build"]


def device_of(args: dict[str, str]) -> str:
    """Where Triton placed the instance."""
    return f"cuda:{args['model_instance_device_id']}" if args["model_instance_kind"] == "GPU" else "cpu"
