"""Answers of an OpenAI-compatible front end: chat completions and completions, as a whole or as events."""

from __future__ import annotations

import json
from typing import Any

from harness.load import outcome
from harness.load.engine.exchange import Exchange
from harness.load.outcome import Failure
from harness.load.reply.calls import ToolCalls
from harness.load.reply.gathering import Gathering
from harness.load.reply.reply import Reply
from harness.load.reply.sse import events

_DONE = b"[DONE]"
# Tokens that are no part of the answer's text are tokens all the same: whoever waits, waits for them.
_OTHER = ("reasoning_content", "reasoning", "refusal")


class OpenAi:
    """A stream ends with [DONE], or at least with a finish reason; one that does not was cut short."""

    def __init__(self, *, stream: bool, keep: bool) -> None:
        self._stream = stream
        self._keep = keep

    def read(self, exchange: Exchange, reply: Reply) -> None:
        gathering = Gathering(reply, keep=self._keep, streams=self._stream)
        calls = ToolCalls()
        ended = not self._stream
        try:
            if not self._stream:
                _answer(gathering, reply, calls, json.loads(b"".join(raw for _, raw in exchange.frames)))
                gathering.chunk(exchange.frames[-1][0])
            else:
                for t_ns, data in events(exchange.frames):
                    if data == _DONE:
                        ended = True
                        break
                    _answer(gathering, reply, calls, json.loads(data))
                    gathering.chunk(t_ns)
        finally:
            gathering.end()
        if self._keep:
            reply.tool_calls = calls.text()
        if reply.failure is None and not ended and not reply.finish_reason:
            reply.failure = Failure("error", "incomplete", "SSE", "the stream ended before [DONE]")


def _answer(gathering: Gathering, reply: Reply, calls: ToolCalls, answer: dict[str, Any]) -> None:
    if error := answer.get("error"):
        message = error.get("message") if isinstance(error, dict) else error
        reply.failure = reply.failure or outcome.of_stream(str(message))
        return
    for choice in answer.get("choices") or ():
        said = choice.get("delta") or choice.get("message") or choice
        gathering.text((said.get("content") or said.get("text") or "").encode("utf-8", "replace"))
        if said.get("tool_calls") or any(said.get(name) for name in _OTHER):
            gathering.beside()
            calls.take(said.get("tool_calls") or ())
        for value in _logprobs(choice.get("logprobs") or {}):
            reply.logprob = (reply.logprob or 0.0) + value
            reply.logprob_tokens = max(reply.logprob_tokens, 0) + 1
        gathering.reason(choice.get("finish_reason"))
    usage = answer.get("usage")
    if usage:
        reply.isl = int(usage.get("prompt_tokens", -1))
        reply.osl = int(usage.get("completion_tokens", -1))
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        reply.cached_tokens = -1 if cached is None else int(cached)


def _logprobs(said: dict[str, Any]) -> list[float]:
    """Of the tokens of one chunk: chat has objects in `content`, completions numbers in `token_logprobs`."""
    values = [entry.get("logprob") for entry in said.get("content") or ()] or said.get("token_logprobs") or []
    return [float(value) for value in values if value is not None]
