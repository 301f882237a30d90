"""Step 4, `rag_prompt`: the question with as much of what was found as fits. Runs inside Triton."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from harness.embedded.guard import end_with_parent
from harness.embedded.rag.tensors import answered, array, strings, text, texts

TOKENS = 90  # of question and passages: one core reads about 190 a second, and the answer waits for that
CHARACTERS = 4  # a token of English, roughly
_PROMPT = """Answer in one short sentence, from this text of the Python manual:
{context}

Question: {question}"""


class TritonPythonModel:
    def initialize(self, _args: dict[str, str]) -> None:
        end_with_parent()

    def execute(self, requests: list[Any]) -> list[Any]:
        return answered(requests, self._answer)

    def _answer(self, request: Any) -> dict[str, NDArray[Any]]:
        room = (TOKENS - len(array(request, "question_ids"))) * CHARACTERS
        return {"prompt": strings(worded(text(request, "question"), texts(request, "passages"), room))}


def worded(question: str, passages: Sequence[str], room: int) -> str:
    """The nearest passages first, and whole, while they fit into `room` characters; the nearest one always."""
    context = passages[0]
    for passage in passages[1:]:
        if len(context) + 1 + len(passage) > room:
            break
        context += f"\n{passage}"
    return _PROMPT.format(context=context, question=question)
