"""Step 3, `rag_search`: the passages whose vectors are nearest to the question's. Runs inside Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from harness.embedded.guard import end_with_parent
from harness.embedded.rag.index import Index
from harness.embedded.rag.tensors import answered, array, strings

NEAREST = 3


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        end_with_parent()
        self._index = Index.read(Path(args["model_repository"]) / args["model_version"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return answered(requests, self._answer)

    def _answer(self, request: Any) -> dict[str, NDArray[Any]]:
        ids, scores = self._index.nearest(array(request, "vector"), NEAREST)
        found = strings(*(self._index.passages[i].text for i in ids))
        return {"passage_ids": ids, "scores": scores, "passages": found}
