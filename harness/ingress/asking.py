"""HTTP requests to a router's own interface: answered within the deadline, as JSON, or one line that says why not."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import httpx

from harness.errors import Unreachable, WorldError

TIMEOUT_S = 5.0
_MOST = 64 * 2**20


class Asking:
    """`where`: how the router is named in errors; `base`: where its paths begin. No redirect is followed: whoever
    answers is whom the address names, and a token goes nowhere else. Loopback or not, no proxy is asked.
    """

    def __init__(self, where: str, base: str, headers: Mapping[str, str] | None = None) -> None:
        self.where, self._base = where, base
        self._client = httpx.Client(headers=dict(headers or {}), timeout=TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def answer(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and body, whatever they are. Raises Unreachable, within twice the timeout also where it drips."""
        deadline, parts, size = time.monotonic() + TIMEOUT_S, list[bytes](), 0
        try:
            with self._client.stream(method, f"{self._base}{path}", json=body) as answer:
                for part in answer.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > _MOST or time.monotonic() > deadline:
                        raise Unreachable(f"{self.where}: its answer to {method} {_plain(path)} does not end")
                return answer.status_code, b"".join(parts).decode(errors="replace")
        except httpx.TimeoutException as error:
            raise Unreachable(f"{self.where}: no answer to {method} {_plain(path)} in {TIMEOUT_S:.0f} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Unreachable(f"{self.where}: nobody answers: {str(error) or type(error).__name__}") from error

    def json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Raises WorldError where it is not 200 with a JSON object."""
        text = self.text(method, path, body)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise WorldError(f"{self.where}: expected a JSON object from {method} {_plain(path)}, found {short(text)}")
        return found

    def text(self, method: str, path: str, body: Any = None) -> str:
        """Raises WorldError where it is not 2xx."""
        status, text = self.answer(method, path, body)
        if not 200 <= status < 300:
            raise WorldError(f"{self.where}: {method} {_plain(path)} is answered {status}: {short(text)}")
        return text


def short(text: str) -> str:
    """On one line, as far as it is worth reading."""
    line = " ".join(text.split())
    return f"{line[:157]}..." if len(line) > 160 else line or "nothing"


def _plain(path: str) -> str:
    return path.partition("?")[0] or "/"
