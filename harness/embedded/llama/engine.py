"""Requests that join and leave the batch between two steps: what model.py serves, without Triton.

One thread owns the device. A request waits for a slot of the cache, its prompt goes through alone, and from then on it
takes part in every step until its answer ends: continuous batching, prompts before answers.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.embedded.faults import SLOWDOWN, BadRequest, errs
from harness.embedded.llama.device import give_back
from harness.embedded.llama.graphs import Steps
from harness.embedded.llama.loading import Tokenizer, context, load, tokenizer
from harness.embedded.llama.settings import LlamaSettings
from harness.embedded.smollm2.tokenizer import Pieces
from harness.embedded.smollm2.wire import Asked, Step, checked_forced, checked_lengths, checked_top_k

WARM = 32
"""Tokens of the prompt that is sent before anybody else's."""


@dataclass(slots=True, eq=False)
class Request:
    """`send`: a step; `stop`: whether nobody waits any more; `done`: the problem, empty if there is none, last."""

    asked: Asked
    prompt: list[int]
    send: Callable[[Step], None]
    stop: Callable[[], bool]
    done: Callable[[str], None]
    pieces: Pieces
    slot: int = -1
    said: list[int] = field(default_factory=list)


class Engine:
    """One version. `submit` returns at once; everything else happens on the engine's own thread."""

    def __init__(self, settings: LlamaSettings, device: str) -> None:
        """Returns once it can serve. RuntimeError where it cannot, as torch.OutOfMemoryError."""
        self.tokenizer: Tokenizer = tokenizer(settings)
        self._settings, self._device, self._fault = settings, device, settings.fault
        self._free = list(range(settings.slots))
        self._running: list[Request] = []
        self._waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._served = 0
        began: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, args=(began,), name="engine", daemon=True)
        self._thread.start()
        began.result()

    def submit(
        self, asked: Asked, send: Callable[[Step], None], stop: Callable[[], bool], done: Callable[[str], None]
    ) -> None:
        """`send` is called for each token, or for all that was scored; `done` once, at the end. BadRequest."""
        number, self._served = self._served, self._served + 1
        if self._fault == "erring" and errs(number):
            raise BadRequest("the build erring fails this request")
        if not asked.text.strip():
            raise BadRequest("text_input is empty")
        prompt = self.tokenizer.chat(asked.text)
        if asked.forced is not None:
            checked_forced(asked.forced, self._model.shape.vocabulary)
        more = asked.max_tokens if asked.forced is None else len(asked.forced)
        checked_lengths(len(prompt), more, self._context)
        checked_top_k(asked.k)
        self._waiting.put(Request(asked, prompt, send, stop, done, Pieces(self.tokenizer)))

    def close(self) -> None:
        """Ends the thread once everything that was submitted is done."""
        self._waiting.put(None)
        self._thread.join()

    # ------------------------------------------------------------ on the engine's thread

    def _serve(self, began: Future[None]) -> None:
        try:
            self._load()
        except BaseException as error:  # noqa: BLE001  it is raised where the engine was asked for
            began.set_exception(error)
            return
        began.set_result(None)
        self._loop()

    def _load(self) -> None:
        """Here, because what CUDA's libraries set up is a thread's own. The first request pays for none of it."""
        settings = self._settings
        self._model = load(settings, self._device)
        self._context = context(settings, self._model)
        self._cache = self._model.cache(settings.slots, self._context, settings.kv)
        self._steps = Steps(self._model, self._cache)
        warm = [0] * min(WARM, self._context - 1)
        for prefill in (partial(self._model.prefill, warm, self._cache), partial(self._steps.prefill, warm)):
            self._cache.lengths[0] = 0
            prefill(0).argmax(1).tolist()
            self._steps.run([0], [0]).argmax(1).tolist()

    def _loop(self) -> None:
        closing = False
        while not (closing and not self._running):
            while self._free and not closing:
                try:
                    request = self._waiting.get(block=not self._running)
                except queue.Empty:
                    break
                closing = request is None
                if request is not None:
                    self._guarded([request], partial(self._begin, request))
            if self._running:
                self._guarded(list(self._running), self._advance)

    def _guarded(self, requests: Sequence[Request], work: Callable[[], None]) -> None:
        """What goes wrong is the answer of these requests; the engine goes on with the others."""
        try:
            work()
            return
        except InterruptedError:
            problem = ""
        except Exception as error:  # noqa: BLE001  as torch.OutOfMemoryError, in its own words
            problem = f"{type(error).__name__}: {error}"
        for request in requests:
            self._leave(request, problem)
        try:
            give_back(self._device)
        except RuntimeError as error:
            # After an illegal access nothing works on the device any more: better no process than one that only errs.
            print(f"llama: the GPU is lost to this process: {error}", file=sys.stderr, flush=True)
            os._exit(1)

    def _begin(self, request: Request) -> None:
        """The prompt, and with it the first token; or all that was to be scored."""
        if request.stop():
            raise InterruptedError
        request.slot = self._free.pop()
        self._cache.lengths[request.slot] = 0
        self._running.append(request)
        forced = request.asked.forced
        ids = request.prompt if forced is None else [*request.prompt, *forced[:-1]]
        last = 1 if forced is None else len(forced)
        logits = self._steps.prefill(ids, request.slot, last, request.stop)
        if forced is None:
            self._say(request, logits, int(logits[0].argmax()))
            return
        top_ids, top = top_logprobs(logits, request.asked.k)
        text = self.tokenizer.decode(forced)
        request.send(Step(text, np.array(forced, np.int32), top_ids, top, "forced", len(request.prompt)))
        self._leave(request, "")

    def _advance(self) -> None:
        """One step of all that run."""
        for request in [each for each in self._running if each.stop()]:
            self._leave(request, "")
        if not self._running:
            return
        began = time.perf_counter()
        logits = self._steps.run([each.said[-1] for each in self._running], [each.slot for each in self._running])
        tokens = logits.argmax(1).tolist()
        if self._fault == "slow":
            time.sleep(SLOWDOWN * (time.perf_counter() - began))
        for row, (request, token) in enumerate(zip(list(self._running), tokens, strict=True)):
            self._guarded([request], partial(self._say, request, logits[row : row + 1], token))

    def _say(self, request: Request, logits: Tensor, token: int) -> None:
        request.said.append(token)
        limit = len(request.said) == request.asked.max_tokens
        reason = "stop" if token == self.tokenizer.end else "length" if limit else ""
        top_ids, top = top_logprobs(logits, request.asked.k)
        text = request.pieces.add(token, bool(reason))
        request.send(Step(text, np.array([token], np.int32), top_ids, top, reason, len(request.prompt)))
        if reason:
            self._leave(request, "")

    def _leave(self, request: Request, problem: str) -> None:
        if request in self._running:
            self._running.remove(request)
        if request.slot >= 0:
            self._free.append(request.slot)
            request.slot = -1
        with contextlib.suppress(Exception):  # whoever cannot be told is gone
            request.done(problem)


def top_logprobs(logits: Tensor, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(ids, log-probabilities), each (tokens, k), most likely first; equal ones in the order of their ids."""
    if k == 0:
        return np.empty((len(logits), 0), np.int32), np.empty((len(logits), 0), np.float32)
    values, ids = torch.log_softmax(logits.float(), 1).topk(k, 1)
    ids_, values_ = ids.cpu().numpy().astype(np.int32), values.cpu().numpy()
    order = np.lexsort((ids_, -values_), axis=1)
    return np.take_along_axis(ids_, order, 1), np.take_along_axis(values_, order, 1)
