"""`rag_embedding` on a GPU: embedding.py in PyTorch. Runs inside Triton; build.json says which build.

The requests that Triton hands over together are one batch. With a max_batch_size above 0, which Triton's dynamic
batching needs, each of them may hold several questions itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.embedded.faults import BadRequest, errs
from harness.embedded.guard import end_with_parent
from harness.embedded.rag.embedder import Array
from harness.embedded.rag.tensors import answered, texts

WARM = "What has to be there before the first question?"


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        end_with_parent()
        folder = Path(args["model_repository"]) / args["model_version"]
        build: str = json.loads((folder / "build.json").read_text())["build"]
        self._rows = json.loads(args["model_config"])["max_batch_size"] > 0
        # here, as in llama/model.py
        from harness.embedded.rag.e5_torch import TorchEmbedder, device_of

        self._embedder = TorchEmbedder(build, device_of(args))
        self._erring = build == "erring"
        self._served = 0
        # libraries and their workspaces are there before anybody measures
        self._embedder.queries([WARM])

    def execute(self, requests: list[Any]) -> list[Any]:
        vectors = iter(self._answers([self._asked(request) for request in requests]))

        def answer(_: Any) -> dict[str, Array]:
            mine = next(vectors)
            if isinstance(mine, BadRequest):
                raise mine
            return {"vector": mine if self._rows else mine[0]}

        return answered(requests, answer)

    def _asked(self, request: Any) -> list[str] | BadRequest:
        number, self._served = self._served, self._served + 1
        if self._erring and errs(number):
            return BadRequest("the build erring fails this request")
        try:
            return texts(request, "question")
        except BadRequest as error:
            return error

    def _answers(self, asked: Sequence[list[str] | BadRequest]) -> list[Array | BadRequest]:
        """Each request's vectors, one a row, or what is wrong with it. Where memory ends, that is wrong with all."""
        every = [question for questions in asked if isinstance(questions, list) for question in questions]
        problem = ""
        try:
            left = self._embedder.queries(every)
        except (MemoryError, RuntimeError) as error:  # PyTorch's OutOfMemoryError is a RuntimeError
            problem = f"{type(error).__name__}: {error}"
        if problem:
            self._embedder.give_back()  # here, where no traceback holds on to it
            return [BadRequest(problem) for _ in asked]
        answers: list[Array | BadRequest] = []
        for questions in asked:
            if isinstance(questions, BadRequest):
                answers.append(questions)
            else:
                answers.append(left[: len(questions)])
                left = left[len(questions) :]
        return answers
