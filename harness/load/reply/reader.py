"""The reader of one model's answers over one wire."""

from __future__ import annotations

import json

from harness.load import outcome
from harness.load.engine.exchange import Exchange
from harness.load.outcome import Failure
from harness.load.reply.gathering import clean
from harness.load.reply.generate import Generated
from harness.load.reply.kserve import Tensors, Tokens, grpc_version, http_version
from harness.load.reply.openai import OpenAi
from harness.load.reply.reply import LONGEST, Reply
from harness.tokens import Count
from harness.types import ModelInfo, Wire

_MOST_TOKENS = 2**31 - 1
_LONGEST_MESSAGE = 2000


class Reader:
    """`digests`: SHA-256 of answers that are not tokens. `tokens`: keep text, token ids and log-probabilities.
    `vectors`: keep the numbers of an answer that is a short vector; only with `digests`.

    Without either only what a Sample says is read: of a model that is no token model that is the answer's version.
    `count`: counts the tokens of an answer whose engine does not.
    """

    def __init__(
        self, model: ModelInfo, wire: Wire, *, digests: bool, tokens: bool, count: Count | None = None,
        vectors: bool = False,
    ) -> None:  # fmt: skip
        talks = model.is_token_model or wire.startswith("openai")
        self._streams = wire.endswith("-stream")
        self._talks = talks
        # Of a model that gives its tokens one by one no text is kept for this.
        self._count = count if talks and (wire.startswith("openai") or not gives_tokens(model)) else None
        self._read = _how(model, wire, talks, digests, vectors, tokens or self._count is not None)
        self._version = None
        if not talks and not digests:
            self._version = {"http": http_version, "grpc": grpc_version}.get(wire)

    def read(self, exchange: Exchange) -> Reply:
        """Never raises for what a server sent: an answer that cannot be read is a failed one."""
        if self._version and exchange.failure is None and exchange.status in (0, 200) and len(exchange.frames) == 1:
            t_ns, raw = exchange.frames[0]
            version = self._version(raw, exchange.json_size)
            if version is not None:
                return Reply(None, t_ns, version)
        return self._whole(exchange)

    def _whole(self, exchange: Exchange) -> Reply:
        reply = Reply(exchange.failure)
        if exchange.status not in (0, 200):
            if reply.failure is None:
                body = b"".join(raw for _, raw in exchange.frames)
                reply.failure = outcome.of_http(exchange.status, _message(body))
            return reply
        if not self._streams:
            if exchange.failure is not None:
                return reply
            if not exchange.frames:
                # Of gRPC, a status of 0 and no message.
                reply.failure = Failure("error", "undecodable", "", "an answer without a body")
                return reply
        try:
            self._read.read(exchange, reply)
        except Exception as error:  # noqa: BLE001  nothing but what the server sent is read here
            reply.failure = reply.failure or Failure("error", "undecodable", "", str(error) or type(error).__name__)
        if self._count is not None and reply.osl < 0 and not reply.more:
            reply.osl, reply.counted = self._count(reply.text), True
        if reply.logprob is not None and reply.logprob_tokens < 0:
            reply.logprob_tokens = reply.osl
        # What a Sample has room for; whoever says more does not know.
        reply.version, reply.finish_reason = clean(reply.version)[:LONGEST], reply.finish_reason[:LONGEST]
        reply.isl, reply.osl, reply.cached_tokens = (
            count if 0 <= count <= _MOST_TOKENS else -1 for count in (reply.isl, reply.osl, reply.cached_tokens)
        )
        if reply.failure is None and self._talks and reply.first_ns < 0:
            reply.failure = outcome.EMPTY
        return reply


def gives_tokens(model: ModelInfo) -> bool:
    return any(t.name == "token_ids" for t in model.outputs)


def _how(
    model: ModelInfo, wire: Wire, talks: bool, digests: bool, vectors: bool, tokens: bool
) -> Tensors | Tokens | Generated | OpenAi:
    if wire in ("openai", "openai-stream"):
        return OpenAi(stream=wire == "openai-stream", keep=tokens)
    if wire in ("generate", "generate-stream"):
        return Generated(model, stream=wire == "generate-stream", keep=tokens, digests=digests, vectors=vectors)
    return Tokens(model, wire, keep=tokens) if talks else Tensors(wire, digests=digests, vectors=vectors)


def _message(body: bytes) -> str:
    """What an error's body says: Triton's {"error": text}, OpenAI's {"error": {"message": text}}, or as it is."""
    try:
        said = json.loads(body)["error"]
        text = said["message"] if isinstance(said, dict) else said
    except (ValueError, LookupError, TypeError, RecursionError):
        text = None
    return (text if isinstance(text, str) else body[:_LONGEST_MESSAGE].decode(errors="replace"))[:_LONGEST_MESSAGE]
