"""Whole answers of a batch, without Triton: what batched.py serves."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.embedded.faults import BadRequest
from harness.embedded.llama.device import give_back
from harness.embedded.llama.loading import Tokenizer, context, load, tokenizer
from harness.embedded.llama.settings import LlamaSettings
from harness.embedded.llama.transformer import BLOCK
from harness.embedded.smollm2.wire import Whole, checked_lengths

REST = 64
"""Tokens that a template adds, and the answer."""


class Answers:
    """Greedy answers to a batch, at most so many tokens each. BadRequest; RuntimeError, as where memory ends."""

    def __init__(self, settings: LlamaSettings, device: str) -> None:
        self._tokenizer: Tokenizer = tokenizer(settings)
        self._device, self._kept = device, settings.kv
        self._model = load(settings, device)
        self.context = context(settings, self._model) if settings.context else self._model.shape.context

    def warm(self) -> None:
        """Workspaces and compiled kernels are there before anybody measures: those of a prompt's first block, of the
        next one, and of steps.
        """
        self(["warm " * min(BLOCK + 8, self.context - REST)], [2])

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
            lacking = isinstance(error, torch.OutOfMemoryError)
            problem = (torch.OutOfMemoryError if lacking else RuntimeError)(str(error))
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
