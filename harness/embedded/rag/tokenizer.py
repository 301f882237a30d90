"""Step 1, `rag_tokenizer`: the question as the language model's own tokenizer sees it. Runs inside Triton."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embedded.faults import BadRequest
from harness.embedded.guard import end_with_parent
from harness.embedded.rag.tensors import answered, strings, text
from harness.embedded.runtime import WEIGHTS_INSTALL, weights_file

LONGEST = 64  # tokens of a question; what is beyond them is cut off


class TritonPythonModel:
    def initialize(self, _args: dict[str, str]) -> None:
        end_with_parent()
        from harness.embedded.smollm2.gguf_file import GgufFile
        from harness.embedded.smollm2.tokenizer import SmolTokenizer

        weights = weights_file()
        if weights is None:
            raise RuntimeError(f"the weights of SmolLM2-135M-Instruct are not installed: {WEIGHTS_INSTALL}")
        self._tokenizer = SmolTokenizer(GgufFile(weights).metadata)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answered(requests, self._answer)

    def _answer(self, request: Any) -> dict[str, NDArray[Any]]:
        question = normalised(text(request, "text_input"))
        if not question:
            raise BadRequest("text_input is empty")
        ids = self._tokenizer.encode(question)
        if len(ids) > LONGEST:
            ids = ids[:LONGEST]
            question = self._tokenizer.decode(ids).rstrip("\N{REPLACEMENT CHARACTER}")
        return {"question": strings(question), "question_ids": np.array(ids, np.int32)}


def normalised(question: str) -> str:
    """One form for what reads the same (NFKC), and single spaces: equal questions get equal vectors."""
    return " ".join(unicodedata.normalize("NFKC", question).split())
