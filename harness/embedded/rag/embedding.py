"""Step 2, `rag_embedding`: what the question means, as a vector. Runs inside Triton; build.json says which build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from harness.embedded.faults import BadRequest, errs
from harness.embedded.guard import end_with_parent
from harness.embedded.rag.embedder import Embedder
from harness.embedded.rag.tensors import answered, text


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        end_with_parent()
        folder = Path(args["model_repository"]) / args["model_version"]
        build: str = json.loads((folder / "build.json").read_text())["build"]
        self._embedder = Embedder(build)
        self._erring = build == "erring"
        self._served = 0

    def execute(self, requests: list[Any]) -> list[Any]:
        return answered(requests, self._answer)

    def _answer(self, request: Any) -> dict[str, NDArray[Any]]:
        number, self._served = self._served, self._served + 1
        if self._erring and errs(number):
            raise BadRequest("the build erring fails this request")
        return {"vector": self._embedder.query(text(request, "question"))}
