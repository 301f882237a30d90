"""Generation and scoring, without Triton: what model.py serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.embedded.faults import SLOWDOWN, BadRequest
from harness.embedded.smollm2.gguf_file import GgufFile
from harness.embedded.smollm2.quantise import rounding
from harness.embedded.smollm2.tokenizer import Pieces, SmolTokenizer
from harness.embedded.smollm2.transformer import Transformer
from harness.embedded.smollm2.wire import Step, Whole, checked_forced, checked_lengths, checked_top_k

Stop = Callable[[], bool]


class Engine:
    """One version: a build of the weights in `file`, their first `layers` (None: all), with keys and values in `kv`."""

    def __init__(self, file: Path, build: str, *, layers: int | None = None, kv: str = "fp32") -> None:
        source = GgufFile(file)
        self.tokenizer = SmolTokenizer(source.metadata)
        self._model = Transformer(source, rounding(build), layers)
        self._kept = np.dtype(np.float16 if kv == "fp16" else np.float32)
        self._slow = build == "slow"

    def generate(self, text: str, max_tokens: int = 16, k: int = 0, stop: Stop = lambda: False) -> Iterator[Step]:
        """Greedy answer, a step a token; the end-of-turn token, where it comes, is the last step's (no text).

        `stop` is asked before every token; the iterator ends early when it says so. BadRequest.
        """
        prompt = self._prompt(text)
        checked_lengths(len(prompt), max_tokens, self._model.context)
        k = checked_top_k(k)
        cache = self._model.cache(len(prompt) + max_tokens)
        pieces = Pieces(self.tokenizer)
        ids = np.array(prompt, np.int32)
        for number in range(1, max_tokens + 1):
            if stop():
                return
            try:
                step = partial(self._model.forward, ids, cache, stop=stop)
                logits = self._decoded(step) if number > 1 else step()
            except InterruptedError:
                return
            token = int(logits[0].argmax())
            ids = np.array([token], np.int32)
            reason = "stop" if token == self.tokenizer.end else "length" if number == max_tokens else ""
            top_ids, top = top_logprobs(logits, k)
            yield Step(pieces.add(token, bool(reason)), ids, top_ids, top, reason, len(prompt))
            if reason:
                return

    def answers(self, texts: Sequence[str], limits: Sequence[int]) -> list[Whole]:
        """Greedy answers to a batch, at most `limits` tokens each. The caches of all of it are there before it begins.

        BadRequest; MemoryError where there is not enough, and then nothing of the batch is kept.
        """
        prompts = [self._prompt(text) for text in texts]
        for prompt, limit in zip(prompts, limits, strict=True):
            checked_lengths(len(prompt), limit, self._model.context)
        caches = [
            self._model.cache(len(prompt) + limit, self._kept) for prompt, limit in zip(prompts, limits, strict=True)
        ]
        said: list[list[int]] = [[] for _ in prompts]
        fed = [np.array(prompt, np.int32) for prompt in prompts]
        for number in range(max(limits, default=0)):
            for row, cache in enumerate(caches):
                if number < limits[row] and self.tokenizer.end not in said[row]:
                    said[row].append(int(self._model.forward(fed[row], cache)[0].argmax()))
                    fed[row] = np.array(said[row][-1:], np.int32)
        return [
            Whole(self.tokenizer.decode(tokens), len(prompt), len(tokens))
            for prompt, tokens in zip(prompts, said, strict=True)
        ]

    def score(self, text: str, forced: Sequence[int], k: int = 0, stop: Stop = lambda: False) -> Step | None:
        """The distributions that this build gives to the tokens `forced` after the prompt, in one pass.

        None when `stop` said so. BadRequest.
        """
        prompt = self._prompt(text)
        checked_forced(forced, self._model.vocabulary)
        checked_lengths(len(prompt), len(forced), self._model.context)
        k = checked_top_k(k)
        ids = np.array([*prompt, *forced[:-1]], np.int32)
        cache = self._model.cache(len(ids))
        try:
            logits = self._model.forward(ids, cache, last=len(forced), stop=stop)
        except InterruptedError:
            return None
        top_ids, top = top_logprobs(logits, k)
        return Step(self.tokenizer.decode(forced), np.array(forced, np.int32), top_ids, top, "forced", len(prompt))

    def _prompt(self, text: str) -> list[int]:
        if not text.strip():
            raise BadRequest("text_input is empty")
        return self.tokenizer.chat(text)

    def _decoded(self, step: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """One decode step. The build `slow` then sleeps for 30 % of what it took: a worse decode kernel, which the
        prompt's own step does not feel.
        """
        began = time.perf_counter()
        logits = step()
        if self._slow:
            time.sleep(SLOWDOWN * (time.perf_counter() - began))
        return logits


def top_logprobs(logits: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(ids, log-probabilities), each (tokens, k), most likely first; equal ones in the order of their ids."""
    rows = len(logits)
    if k == 0:
        return np.empty((rows, 0), np.int32), np.empty((rows, 0), np.float32)
    peak = logits.max(axis=1, keepdims=True)
    log_total = peak + np.log(np.exp(logits - peak).sum(axis=1, keepdims=True, dtype=np.float64))
    best = np.argpartition(-logits, k - 1, axis=1)[:, :k] if k < logits.shape[1] else np.argsort(-logits, axis=1)
    best.sort(axis=1)
    values = np.take_along_axis(logits, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    ids = np.take_along_axis(best, order, axis=1).astype(np.int32)
    return ids, (np.take_along_axis(values, order, axis=1) - log_total).astype(np.float32)
