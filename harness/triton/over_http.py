"""Triton's control calls over HTTP.

httpx and not tritonclient.http, which brings gevent into every process that imports it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from harness.errors import Unreachable
from harness.triton.transport import Refused, one_line

SAYS_NO = (400, 503)


class HttpTransport:
    """See Transport. Connections are not kept: calls are rare, and servers come and go between two."""

    def __init__(self, url: str, base: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._root = f"{base}/v2"
        self._client = httpx.Client(
            headers=dict(headers),
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,  # a proxy between us and an inference server is never meant
            verify=False,  # no TLS on http://; skips reading the trust store
        )

    def live(self) -> bool:
        return self._yes("/health/live")

    def server_ready(self) -> bool:
        return self._yes("/health/ready")

    def ready(self, model: str, version: int) -> bool:
        return self._yes(f"{_path(model, version)}/ready")

    def server(self) -> dict[str, Any]:
        return self._object(self._ask("GET", ""))

    def index(self) -> list[dict[str, Any]]:
        answer = self._decoded(self._ask("POST", "/repository/index", {}))
        if not isinstance(answer, list):
            raise Refused(f"{self.url}: the repository index is not a list")
        return answer

    def metadata(self, model: str, version: int | None) -> dict[str, Any]:
        return self._object(self._ask("GET", _path(model, version)))

    def config(self, model: str, version: int | None) -> dict[str, Any]:
        return self._object(self._ask("GET", f"{_path(model, version)}/config"))

    def load(self, model: str, config: str | None, timeout_s: float) -> None:
        body = {} if config is None else {"parameters": {"config": config}}
        self._ask("POST", f"/repository/models/{quote(model, safe='')}/load", body, timeout_s)

    def unload(self, model: str, timeout_s: float) -> None:
        self._ask("POST", f"/repository/models/{quote(model, safe='')}/unload", {}, timeout_s)

    def close(self) -> None:
        self._client.close()

    def _yes(self, path: str) -> bool:
        response = self._send("GET", path, None, self._timeout_s)
        if response.status_code == httpx.codes.OK:
            return True
        # Triton has always these two pages; a model or version may be unknown to it.
        if response.status_code in (SAYS_NO if path.startswith("/health/") else (*SAYS_NO, 404)):
            return False
        raise Refused(f"{self.url}: answers, but not as a Triton: HTTP {response.status_code} on /v2{path}")

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, timeout_s: float | None = None
    ) -> httpx.Response:
        response = self._send(method, path, body, timeout_s or self._timeout_s, slow=timeout_s is not None)
        if response.is_success:
            return response
        try:
            reason = str(response.json()["error"])
        except (ValueError, KeyError, TypeError):
            reason = f"{self.url}: HTTP {response.status_code} on /v2{path}: {response.text[:200]}"
        raise Refused(reason, unknown=response.status_code == httpx.codes.NOT_FOUND or "unknown model" in reason)

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float, slow: bool = False
    ) -> httpx.Response:
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, self._timeout_s))
        try:
            return self._client.request(method, f"{self._root}{path}", json=body, timeout=timeout)
        except httpx.ReadTimeout as error:
            if slow:
                raise Refused(f"{self.url}: not finished after {timeout_s:g} s", timed_out=True) from error
            raise Unreachable(f"{self.url}: no answer within {timeout_s:g} s") from error
        except httpx.TimeoutException as error:
            raise Unreachable(f"{self.url}: no connection within {self._timeout_s:g} s") from error
        except httpx.RemoteProtocolError as error:
            # A server that died, or a gRPC port.
            raise Unreachable(f"{self.url}: no HTTP server answers there ({one_line(str(error))})") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(f"{self.url}: nobody answers there ({one_line(str(error))})") from error

    def _object(self, response: httpx.Response) -> dict[str, Any]:
        answer = self._decoded(response)
        if not isinstance(answer, dict):
            raise Refused(f"{self.url}: answers, but not as a Triton")
        return answer

    def _decoded(self, response: httpx.Response) -> Any:
        try:
            return json.loads(response.content)
        except ValueError as error:
            raise Refused(f"{self.url}: answers, but not as a Triton: no JSON") from error


def _path(model: str, version: int | None) -> str:
    path = f"/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{version}"
