"""`llama_batched`: whole answers of a batch, in as much of the GPU's memory as that takes. Runs inside Triton.

Keys and values of the whole batch are allocated before it begins, and given back when it ends: memory grows with batch
and context, up to the GPU's own end. A batch for which there is not enough fails as a whole, in PyTorch's words; the
instance lets go of everything and serves the next.
"""

from __future__ import annotations

from typing import Any

from harness.embedded.guard import end_with_parent
from harness.embedded.llama.model import build_of, device_of
from harness.embedded.llama.settings import settle_llama
from harness.embedded.smollm2.wire import answer_batches


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        end_with_parent()
        from harness.embedded.llama.answers import Answers  # here, as in model.py

        self._answers = Answers(settle_llama(build_of(args)), device_of(args))
        self._answers.warm()

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer_batches(requests, self._answers)
