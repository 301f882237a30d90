"""A proxy between a store's client and its server that breaks what it is told to break."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


@dataclass(frozen=True)
class Reply:
    """`cut_at`: so many bytes of the body are sent under the Content-Length of all, then the connection is closed."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    cut_at: int | None = None


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)


Forward = Callable[[], Reply]
Fault = Callable[[Asked, Forward], Reply]
"""What the client gets; `forward()` is what the server answers, which is not asked otherwise."""


def error(status: int, code: str, message: str = "told to") -> Fault:
    """Every request is answered with this S3 error."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return lambda asked, forward: Reply(status, b"" if asked.method == "HEAD" else body)


def cut(at: int, key: str) -> Fault:
    """The body of GET for `key` breaks off."""

    def cut_it(asked: Asked, forward: Forward) -> Reply:
        hit = asked.method == "GET" and urlsplit(asked.path).path.endswith(key)
        return replace(forward(), cut_at=at) if hit else forward()

    return cut_it


def edited(*changes: tuple[bytes, bytes]) -> Fault:
    """Every listing is changed by replacing text in it, which must be there."""

    def edit(asked: Asked, forward: Forward) -> Reply:
        reply = forward()
        if "list-type" not in asked.path:
            return reply
        body = reply.body
        for old, new in changes:
            assert old in body, body
            body = body.replace(old, new)
        return replace(reply, body=body)

    return edit


class Proxy:
    """Forwards to `upstream`, through `fault` where one is set; `requests` are those that came."""

    def __init__(self, upstream: str) -> None:
        self.fault: Fault | None = None
        self.requests: list[Asked] = []
        host, port = urlsplit(upstream).hostname or "", urlsplit(upstream).port
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:  # the client has seen enough
                    self.close_connection = True

            def _forward(self) -> None:
                if self.headers.get("Expect") == "100-continue":
                    self.send_response_only(100)
                    self.end_headers()
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
                proxy.requests.append(asked)
                length: str | None = None

                def forward() -> Reply:
                    nonlocal length
                    upstream = http.client.HTTPConnection(host, port, timeout=120)
                    try:
                        headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
                        upstream.request(self.command, self.path, body, headers)
                        got = upstream.getresponse()
                        length = got.getheader("Content-Length")
                        return Reply(got.status, got.read(), tuple(got.getheaders()))
                    finally:
                        upstream.close()

                reply = proxy.fault(asked, forward) if proxy.fault is not None else forward()
                self.send_response(reply.status)
                for name, value in reply.headers:
                    if name.lower() not in HOP:
                        self.send_header(name, value)
                of_head = self.command == "HEAD" and length is not None
                self.send_header("Content-Length", str(length) if of_head else str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body[: reply.cut_at])
                if reply.cut_at is not None:
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
