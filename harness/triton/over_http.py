"""Triton's control calls over HTTP.

httpx and not tritonclient.http, which brings gevent into every process that imports it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from harness.errors import Unreachable
from harness.tensors import Tensor
from harness.triton import infer_http
from harness.triton.access import Access
from harness.triton.answer import Answer, joined
from harness.triton.tls import http_context
from harness.triton.transport import Refused, no_entry, one_line

SAYS_NO = (400, 503)
NO_ENTRY = (401, 403)
# A proxy that gave up on a server which may still be at work.
PROXY_GAVE_UP = (502, 504)


class HttpTransport:
    """See Transport. Connections are not kept: calls are rare, and servers come and go between two."""

    def __init__(self, url: str, base: str, access: Access, timeout_s: float, *, tls: bool) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._base = base
        self._access = access
        headers = dict(access.headers)
        if access.server_name:
            headers.setdefault("Host", access.server_name)
        self._extensions = {"sni_hostname": access.server_name} if access.server_name else {}
        self._client = httpx.Client(
            headers=headers,
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,  # a proxy between us and an inference server is never meant
            verify=http_context(access) if tls else False,  # no TLS on http://; skips reading the trust store
        )

    def live(self) -> bool:
        return self._yes("/v2/health/live")

    def server_ready(self) -> bool:
        return self._yes("/v2/health/ready")

    def ready(self, model: str, version: int) -> bool:
        return self._yes(f"{_path(model, version)}/ready")

    def server(self) -> dict[str, Any]:
        return self._object(self._ask("GET", "/v2"))

    def index(self) -> list[dict[str, Any]]:
        answer = self._decoded(self._ask("POST", "/v2/repository/index", {}))
        if not isinstance(answer, list):
            raise Refused(f"{self.url}: the repository index is not a list")
        return answer

    def metadata(self, model: str, version: int | None) -> dict[str, Any]:
        return self._object(self._ask("GET", _path(model, version)))

    def config(self, model: str, version: int | None) -> dict[str, Any]:
        return self._object(self._ask("GET", f"{_path(model, version)}/config"))

    def statistics(self, model: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._object(self._ask("GET", f"{_path(model, None)}/stats")).get(
            "model_stats", []
        )
        return rows

    def infer(self, model: str, version: int | None, tensors: Sequence[Tensor], timeout_s: float) -> Answer:
        body, headers = infer_http.binary_request(tensors)
        response = self._ask("POST", f"{_path(model, version)}/infer", body, timeout_s, headers=headers)
        try:
            return infer_http.binary_answer(response.content, response.headers)
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(f"{self.url}: its answer to an inference request is not as Triton's: {error}") from error

    def stream(self, model: str, version: int | None, tensors: Sequence[Tensor], timeout_s: float) -> Answer:
        outputs = {output["name"]: output["datatype"] for output in self.metadata(model, version)["outputs"]}
        body = infer_http.generate_request(tensors)
        response = self._ask("POST", f"{_path(model, version)}/generate_stream", body, timeout_s)
        try:
            answers = infer_http.streamed_answers(response.text, outputs)
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(f"{self.url}: the stream of {model} is not as Triton's: {error}") from error
        if not answers:
            raise Refused(f"{self.url}: {model} ended its stream without an answer")
        return joined(answers)

    def load(self, model: str, config: str | None, timeout_s: float) -> None:
        body = {} if config is None else {"parameters": {"config": config}}
        self._ask("POST", f"/v2/repository/models/{quote(model, safe='')}/load", body, timeout_s)

    def unload(self, model: str, timeout_s: float) -> None:
        self._ask("POST", f"/v2/repository/models/{quote(model, safe='')}/unload", {}, timeout_s)

    def http_status(self, path: str) -> int | None:
        return self._send("GET", path, None, self._timeout_s).status_code

    def close(self) -> None:
        self._client.close()

    def _yes(self, path: str) -> bool:
        response = self._send("GET", path, None, self._timeout_s)
        if response.status_code == httpx.codes.OK:
            return True
        # Triton has always these two pages; a model or version may be unknown to it.
        if response.status_code in (SAYS_NO if path.startswith("/v2/health/") else (*SAYS_NO, 404)):
            return False
        raise self._refused(response, path)

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | bytes | None = None,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        patience = timeout_s or self._timeout_s
        response = self._send(method, path, body, patience, slow=timeout_s is not None, headers=headers)
        if response.is_success:
            return response
        raise self._refused(response, path)

    def _refused(self, response: httpx.Response, path: str) -> Refused:
        status, text = response.status_code, self._access.hide(one_line(response.text))
        try:
            reason = str(json.loads(text)["error"])
        except (ValueError, KeyError, TypeError):
            reason = ""
        if status in NO_ENTRY:
            return no_entry(self.url, reason or f"HTTP {status} on {path}: {text[:200]}", self._access)
        if reason:
            return Refused(reason, unknown=status == httpx.codes.NOT_FOUND)
        return Refused(
            f"{self.url}: answers, but not as a Triton: HTTP {status} on {path}: {text[:200]}",
            unfinished=status in PROXY_GAVE_UP,
        )

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | bytes | None,
        timeout_s: float,
        slow: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, self._timeout_s))
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            return self._client.request(
                method,
                f"{self._base}{path}",
                content=content,
                headers=headers,
                timeout=timeout,
                extensions=self._extensions,
            )
        except httpx.ReadTimeout as error:
            if slow:
                raise Refused(f"{self.url}: not finished after {timeout_s:g} s", unfinished=True) from error
            raise Unreachable(f"{self.url}: no answer within {timeout_s:g} s") from error
        except httpx.TimeoutException as error:
            raise Unreachable(f"{self.url}: no connection within {self._timeout_s:g} s") from error
        except httpx.RemoteProtocolError as error:
            # A server that died, or a gRPC port.
            raise Unreachable(f"{self.url}: no HTTP server answers there ({one_line(str(error))})") from error
        except httpx.ConnectError as error:
            why = one_line(str(error))
            if "CERTIFICATE_VERIFY_FAILED" in why:
                why = f"its certificate is not trusted: {why.partition('failed: ')[2].partition(' (_ssl')[0]}"
            raise Unreachable(f"{self.url}: nobody answers there ({why})") from error
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
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{version}"
