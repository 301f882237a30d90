"""Tool calls of an OpenAI-compatible answer, put together from the pieces of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from harness.load.reply.gathering import clean


class ToolCalls:
    """`text` is a JSON list of {"name", "arguments"}, in the order of their index; "" without any call.

    Arguments are text, as the model wrote it: whether it is JSON is for a scorer to say.
    """

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, str]] = {}

    def take(self, pieces: Iterable[Mapping[str, Any]]) -> None:
        """Calls of a message, or pieces of them: the name comes whole, arguments bit by bit."""
        for position, piece in enumerate(pieces):
            call = self._calls.setdefault(int(piece.get("index", position)), {"name": "", "arguments": ""})
            function = piece.get("function") or {}
            call["name"] += function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""

    def text(self) -> str:
        if not self._calls:
            return ""
        return clean(json.dumps([self._calls[index] for index in sorted(self._calls)], ensure_ascii=False))
