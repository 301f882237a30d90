"""HTTP requests to a router's own interface: answered within a deadline, as JSON, or one line that says why not."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from harness.errors import Unreachable, UsageError, WorldError

TIMEOUT_S = 5.0
MOST_BYTES = 64 * 2**20


class Asking:
    """`where`: how the router is named in errors; `base`: what its paths are appended to; `token`: a bearer token.

    No redirect is followed and no proxy asked: whoever answers is whom the address names, and nobody else gets the
    token. It is in no error either, also where the answer repeats it. Trusted is what the system trusts, or the
    environment's SSL_CERT_FILE. Raises UsageError for what is no URL.
    """

    def __init__(self, where: str, base: str, token: str = "") -> None:
        self.where, self._base, self._token = where, base, token
        try:
            secure = httpx.URL(base).scheme == "https"
            urlsplit(base).port  # noqa: B018 - it is looked at
        except (httpx.InvalidURL, ValueError) as error:
            raise UsageError(f"{where}: {error}") from error
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {token}"} if token else None,
            timeout=TIMEOUT_S,
            trust_env=False,
            # a connection that was kept may be one to a router that was restarted meanwhile
            limits=httpx.Limits(max_keepalive_connections=0),
            verify=ssl.create_default_context() if secure else False,
        )

    def close(self) -> None:
        self._client.close()

    def answer(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and body, whatever they are. Raises Unreachable: none, or none that ends in time."""
        asked = f"{method} {path.partition('?')[0]}".rstrip()
        deadline, parts, size = time.monotonic() + TIMEOUT_S, list[bytes](), 0
        try:
            with self._client.stream(method, f"{self._base}{path}", json=body) as answer:
                for part in answer.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > MOST_BYTES or time.monotonic() > deadline:
                        raise Unreachable(f"{self.where}: the answer to {asked} does not end")
        except httpx.TimeoutException as error:
            raise Unreachable(f"{self.where}: no answer to {asked} in {TIMEOUT_S:.0f} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Unreachable(f"{self.where}: {asked}: {self._plain(str(error)) or type(error).__name__}") from error
        return answer.status_code, self._plain(b"".join(parts).decode(errors="replace"))

    def text(self, method: str, path: str, body: Any = None) -> str:
        """Raises WorldError where the status is not 2xx."""
        status, text = self.answer(method, path, body)
        if not 200 <= status < 300:
            asked = f"{method} {path.partition('?')[0]}".rstrip()
            raise WorldError(f"{self.where}: {asked} is answered {status}: {short(text)}")
        return text

    def json(self, path: str) -> Mapping[str, Any]:
        """What GET answers. Raises WorldError where that is no JSON object."""
        text = self.text("GET", path)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise WorldError(f"{self.where}: expected a JSON object, found {short(text)}")
        return found

    def _plain(self, text: str) -> str:
        return text.replace(self._token, "(the token)") if self._token else text


def short(value: Any) -> str:
    """On one line, as far as it is worth reading."""
    line = " ".join(str(value).split())
    return f"{line[:157]}..." if len(line) > 160 else line or "nothing"
