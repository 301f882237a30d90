"""Triton's control calls over HTTP.

httpx and not tritonclient.http, which brings gevent into every process that imports it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from harness.errors import Unreachable
from harness.triton.transport import Refusal, one_line

NOT_READY = (400, 404, 503)


class HttpTransport:
    """See Transport. Connections are not kept: a control call is rare, and servers come and go between two."""

    def __init__(self, url: str, base: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self.url = url
        self._timeout_s = timeout_s
        loopback = urlsplit(base).hostname in ("127.0.0.1", "localhost", "::1")
        self._client = httpx.Client(
            base_url=f"{base}/v2",
            headers=dict(headers),
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=not loopback,
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
            raise Refusal(f"{self.url}: the repository index is not a list")
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
        if response.status_code in NOT_READY and path != "/health/live":
            return False
        if response.status_code in (400, 503):
            return False
        raise Refusal(f"{self.url}: answers, but not as a Triton: HTTP {response.status_code} on /v2{path}")

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
        raise Refusal(reason, unknown=response.status_code == httpx.codes.NOT_FOUND or "unknown model" in reason)

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float, slow: bool = False
    ) -> httpx.Response:
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, self._timeout_s))
        try:
            return self._client.request(method, path, json=body, timeout=timeout)
        except httpx.ReadTimeout as error:
            if slow:
                raise Refusal(f"{self.url}: not finished after {timeout_s:g} s", timed_out=True) from error
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
            raise Refusal(f"{self.url}: answers, but not as a Triton")
        return answer

    def _decoded(self, response: httpx.Response) -> Any:
        try:
            return json.loads(response.content)
        except ValueError as error:
            raise Refusal(f"{self.url}: answers, but not as a Triton: no JSON") from error


def _path(model: str, version: int | None) -> str:
    path = f"/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{version}"
