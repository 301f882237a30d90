"""`OpenAiFrontEnd`: a fake of Triton's OpenAI-compatible front end, for tests only.

The real one (python/openai in triton-inference-server/server) comes in NVIDIA's containers: it needs the in-process
Triton, which no package on PyPI brings (tritonfrontend there has KServe's front ends only). This one repeats the prompt
word by word, in the real one's words: engine/triton_engine.py of that folder is the source of each chunk's form.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_PATHS = {"/v1/chat/completions": True, "/v1/completions": False}


def events_of(pieces: Sequence[str], *, chat: bool, reason: str, usage: dict[str, Any] | None) -> list[bytes]:
    """The events of a streamed answer; the last piece carries the reason."""
    made = []
    if chat:
        made.append(
            _chunk(
                [{"delta": {"role": "assistant", "content": "", "function_call": None}, "finish_reason": None}], chat
            )
        )
    for number, piece in enumerate(pieces, 1):
        said = {"delta": {"role": None, "content": piece, "function_call": None}} if chat else {"text": piece}
        made.append(_chunk([{**said, "finish_reason": reason if number == len(pieces) else None}], chat))
    if usage:
        made.append(_chunk([], chat, usage=usage))
    return [*(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in made), b"data: [DONE]\n\n"]


def completion(text: str, *, chat: bool, reason: str, usage: dict[str, Any] | None) -> dict[str, Any]:
    said = {"message": {"content": text, "tool_calls": None, "role": "assistant"}} if chat else {"text": text}
    document = _chunk([{**said, "finish_reason": reason}], chat, usage=usage)
    return {**document, "object": "chat.completion" if chat else "text_completion"}


def _chunk(choices: list[dict[str, Any]], chat: bool, usage: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "id": "cmpl-1",
        "choices": [{"index": 0, "logprobs": None, **choice} for choice in choices],
        "created": 1,
        "model": "echo",
        "system_fingerprint": None,
        "object": "chat.completion.chunk" if chat else "text_completion",
        "usage": usage,
    }


class OpenAiFrontEnd:
    """Serves the model `echo` at `url`; `seen` are the requests (headers, body) in their order."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, str], dict[str, Any]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                seen.append((dict(self.headers.items()), body))
                chat = _PATHS.get(self.path)
                if chat is None:
                    self._whole(404, {"detail": "Not Found"})
                elif body["model"] != "echo":
                    self._whole(400, {"detail": f"Unknown model: {body['model']}"})
                elif not body["stream"] and "stream_options" in body:
                    self._whole(400, {"detail": "`stream_options` can only be used when `stream` is True"})
                else:
                    self._answer(body, chat)

            def _answer(self, body: dict[str, Any], chat: bool) -> None:
                text = body["messages"][-1]["content"] if chat else body["prompt"]
                words = text.split()
                pieces = [f"{word} " for word in words[: body["max_tokens"]]]
                reason = "length" if len(words) > len(pieces) else "stop"
                usage = {
                    "prompt_tokens": len(words),
                    "completion_tokens": len(pieces),
                    "total_tokens": len(words) + len(pieces),
                }
                if not body["stream"]:
                    self._whole(200, completion("".join(pieces), chat=chat, reason=reason, usage=usage))
                    return
                wanted = (body.get("stream_options") or {}).get("include_usage")
                self._head(200, "text/event-stream; charset=utf-8", "Transfer-Encoding", "chunked")
                for event in events_of(pieces, chat=chat, reason=reason, usage=usage if wanted else None):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
                self.wfile.write(b"0\r\n\r\n")

            def _whole(self, status: int, document: dict[str, Any]) -> None:
                body = json.dumps(document).encode()
                self._head(status, "application/json", "Content-Length", str(len(body)))
                self.wfile.write(body)

            def _head(self, status: int, kind: str, name: str, value: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header(name, value)
                self.end_headers()

        return Handler
