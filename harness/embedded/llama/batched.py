"""`llama_batched`: whole answers of a batch, in as much of the GPU's memory as that takes. Runs inside Triton.

Keys and values of the whole batch are allocated before it begins, and given back when it ends: memory grows with batch
and context, up to the GPU's own end. A batch for which there is not enough fails as a whole, in PyTorch's words; the
instance lets go of everything and serves the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from harness.embedded.faults import BadRequest
from harness.embedded.guard import end_with_parent
from harness.embedded.llama.device import give_back
from harness.embedded.llama.loading import Tokenizer, context, load, tokenizer
from harness.embedded.llama.model import build_of, device_of
from harness.embedded.llama.settings import LlamaSettings, settle_llama
from harness.embedded.llama.transformer import BLOCK
from harness.embedded.smollm2.wire import Whole, answer_batches, checked_lengths

REST = 64
"""Tokens that a template adds, and the answer."""


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        end_with_parent()
        self._answers = Answers(settle_llama(build_of(args)), device_of(args))
        # Workspaces and compiled kernels are there before anybody measures: those of a prompt's first block, of the
        # next one, and of steps.
        self._answers(["warm " * min(BLOCK + 8, self._answers.context - REST)], [2])

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer_batches(requests, self._answers)


class Answers:
    """Greedy answers to a batch, at most so many tokens each. BadRequest; RuntimeError, as where memory ends."""

    def __init__(self, settings: LlamaSettings, device: str) -> None:
        self._tokenizer: Tokenizer = tokenizer(settings)
        self._device, self._kept = device, settings.kv
        self._model = load(settings, device)
        self.context = context(settings, self._model) if settings.context else self._model.shape.context

    def __call__(self, texts: Sequence[str], limits: Sequence[int]) -> list[Whole]:
        prompts = [self._tokenizer.chat(text) for text in texts]
        for text, prompt, limit in zip(texts, prompts, limits, strict=True):
            if not text.strip():
                raise BadRequest("text_input is empty")
            checked_lengths(len(prompt), limit, self.context)
        said: list[list[int]] = []
        problem: Exception | None = None
        try:
            said = self._said(prompts, limits)
        except RuntimeError as error:  # torch.OutOfMemoryError is one; a kernel that finds no room says it otherwise
            problem = type(error)(str(error))
        # What one batch needed does not count for the next. Here, where no traceback holds on to it any more.
        give_back(self._device)
        if problem:
            raise problem
        return [
            Whole(self._tokenizer.decode(tokens), len(prompt), len(tokens))
            for prompt, tokens in zip(prompts, said, strict=True)
        ]

    def _said(self, prompts: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
        longest = max(len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True))
        cache = self._model.cache(len(prompts), longest, self._kept)
        said = [[int(self._model.prefill(prompt, cache, row)[0].argmax())] for row, prompt in enumerate(prompts)]
        for _ in range(max(limits) - 1):
            rows = [row for row, mine in enumerate(said) if self._goes_on(mine, limits[row])]
            if not rows:
                break
            given = [[said[row][-1] for row in rows], rows, [cache.lengths[row] for row in rows]]
            tokens, slots, positions = torch.tensor(given, device=self._device)
            for row, token in zip(
                rows, self._model.step(tokens, slots, positions, cache).argmax(1).tolist(), strict=True
            ):
                cache.lengths[row] += 1
                said[row].append(token)
        return said

    def _goes_on(self, said: Sequence[int], limit: int) -> bool:
        return len(said) < limit and said[-1] != self._tokenizer.end
