"""Answers of Triton's generate extension: one JSON object, or one an event."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from harness.load import outcome
from harness.load.engine.exchange import Exchange
from harness.load.reply.gathering import LOGPROB, Gathering, clean, ids, logprob
from harness.load.reply.numbers import Numbers
from harness.load.reply.reply import Reply
from harness.load.reply.sse import events
from harness.types import ModelInfo

_ISL = ("input_tokens", "num_input_tokens")


class Generated:
    """Outputs are flat: a list, or its one value. The digest is of their JSON, so it compares over this wire only."""

    def __init__(self, model: ModelInfo, *, stream: bool, keep: bool, digests: bool, vectors: bool) -> None:
        self._stream = stream
        self._keep = keep
        self._talks = model.is_token_model
        self._digests = digests and not self._talks
        self._vectors = vectors
        names = {t.name for t in model.outputs}
        self._names = tuple(t.name for t in model.outputs)
        self._counts = "token_ids" in names

    def read(self, exchange: Exchange, reply: Reply) -> None:
        gathering = Gathering(reply, keep=self._keep, streams=self._stream)
        sha, numbers = hashlib.sha256(), Numbers(reply, vectors=self._vectors)
        if self._counts:
            gathering.tokens(0)
        try:
            for t_ns, answer in self._answers(exchange):
                if "error" in answer and "model_name" not in answer:
                    reply.failure = reply.failure or outcome.of_stream(str(answer["error"]))
                    continue
                reply.version = clean(str(answer.get("model_version", reply.version)))
                if self._talks:
                    self._tokens(gathering, reply, answer)
                    gathering.chunk(t_ns)
                else:
                    self._other(reply, answer, t_ns)
                    if self._digests:
                        sha.update(json.dumps([[name, answer.get(name)] for name in self._names]).encode())
                        for name in self._names:
                            numbers.flat(name, answer.get(name))
        finally:
            gathering.end()
        if self._digests and reply.failure is None:
            reply.digest = sha.hexdigest()
            numbers.end()

    def _answers(self, exchange: Exchange) -> Iterator[tuple[int, dict[str, Any]]]:
        if not self._stream:
            yield exchange.frames[-1][0], json.loads(b"".join(raw for _, raw in exchange.frames))
            return
        for t_ns, data in events(exchange.frames):
            yield t_ns, json.loads(data)

    def _other(self, reply: Reply, answer: dict[str, Any], t_ns: int) -> None:
        if any(name in answer for name in self._names):
            if reply.first_ns < 0:
                reply.first_ns = t_ns
            if self._stream:
                reply.chunks_ns.append(t_ns)

    def _tokens(self, gathering: Gathering, reply: Reply, answer: dict[str, Any]) -> None:
        gathering.text("".join(_list(answer.get("text_output", ""))).encode("utf-8", "replace"))
        gathering.reason("".join(_list(answer.get("finish_reason", ""))))
        for name in _ISL:
            if name in answer:
                reply.isl = int(_list(answer[name])[0])
        if "num_output_tokens" in answer:
            gathering.counted(sum(_list(answer["num_output_tokens"])))
        if self._keep:
            for name in LOGPROB:
                if name in answer:
                    reply.logprob = logprob(_list(answer[name]), reply.logprob)
        if "token_ids" in answer:
            said = _list(answer["token_ids"])
            gathering.tokens(len(said))
            if self._keep:
                topk_ids = ids(_list(answer.get("topk_ids", [])))
                reply.token_ids += ids(said)
                reply.topk_ids += topk_ids
                reply.topk_logprobs += [float(value) for value in _list(answer.get("topk_logprobs", []))]
                reply.k = len(topk_ids) // len(said) if said and topk_ids else reply.k


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
