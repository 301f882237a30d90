"""The page over HTTP, for browsers on this machine: one path, GET and HEAD, and nobody else's name for this address.

`GET /` answers with the newest page. With `If-None-Match: "NUMBER"` it waits until there is another one, HOLD_S at
most, and says 304 where none came. `X-Words` says, percent-encoded, how the run stands; `X-Final` comes with the last
page.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

from harness.run.live.newest import Drawn, Newest

HOLD_S = 20.0
FIRST_S = 60.0
"""For the first page: what draws it takes seconds to import, and has little of the CPU."""
QUIET_S = 30.0
"""A connection on which nothing is asked for so long is nobody's."""
MOST_THREADS = 100
"""Each connection has one. Beyond so many a new one is closed at once: nobody has so many browsers, and a process that
runs out of descriptors asks for the next connection again and again, on a whole core.
"""
HOSTS = ("127.0.0.1", "localhost")


class Server(ThreadingHTTPServer):
    """Answers on a socket that listens already. `settled` waits for those who look to have the last page."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, newest: Newest) -> None:
        super().__init__(listening.getsockname(), _Answer, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.newest = newest
        self._looking = threading.Condition()
        self._open: dict[_Answer, bool] = {}

    def looks(self, who: _Answer, *, has_it_all: bool = False) -> None:
        with self._looking:
            self._open[who] = has_it_all
            self._looking.notify_all()

    def leaves(self, who: _Answer) -> None:
        with self._looking:
            self._open.pop(who, None)
            self._looking.notify_all()

    def verify_request(self, *_: Any) -> bool:
        return threading.active_count() < MOST_THREADS

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that was closed is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def settled(self, patience_s: float) -> bool:
        """Waits until every open connection on which a page was asked for has had the final one; whether it has."""
        with self._looking:
            return self._looking.wait_for(lambda: all(self._open.values()), patience_s)


class _Answer(BaseHTTPRequestHandler):
    """One connection, which a browser keeps for one request after the other."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = QUIET_S

    def do_GET(self) -> None:
        if not self._allowed():
            return
        self.server.looks(self)
        number = self._number()
        page = self.server.newest.other_than(number, HOLD_S if number else FIRST_S)
        if page is None:
            self._head(HTTPStatus.NOT_MODIFIED if number else HTTPStatus.SERVICE_UNAVAILABLE, length=0)
            return
        self._page(page)
        self.wfile.write(page.html)
        self.server.looks(self, has_it_all=page.final)

    def do_HEAD(self) -> None:
        if self._allowed():
            page = self.server.newest.other_than(0, FIRST_S)
            if page is None:
                self._head(HTTPStatus.SERVICE_UNAVAILABLE, length=0)
            else:
                self._page(page)

    def finish(self) -> None:
        self.server.leaves(self)
        with contextlib.suppress(OSError):  # a browser that was closed
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Who looks is not recorded."""

    def version_string(self) -> str:
        return "triton-canary"

    def _allowed(self) -> bool:
        """Another site's name that leads here (DNS rebinding) would let that site read the page. The port does not
        matter for that, and behind a tunnel it is another one.
        """
        host = self.headers.get("Host", "").partition(":")[0].lower()
        if host not in HOSTS:
            self._refuse(HTTPStatus.FORBIDDEN, f"this page is at {' or '.join(HOSTS)}, and under no other name")
        elif self.path != "/":
            self._refuse(HTTPStatus.NOT_FOUND, "there is one page here: /")
        return host in HOSTS and self.path == "/"

    def _number(self) -> int:
        """Of the page that the browser has; 0 if none."""
        tag = self.headers.get("If-None-Match", "").strip('"')
        return int(tag) if tag.isascii() and tag.isdigit() else 0

    def _page(self, page: Drawn) -> None:
        more = {"ETag": f'"{page.number}"', "X-Words": quote(page.words), "Content-Type": "text/html; charset=utf-8"}
        if page.final:
            more["X-Final"] = "true"
        self._head(HTTPStatus.OK, len(page.html), more)

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        text = f"{words}\n".encode()
        self._head(status, len(text), {"Content-Type": "text/plain; charset=utf-8"})
        if self.command != "HEAD":
            self.wfile.write(text)

    def _head(self, status: HTTPStatus, length: int, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        lasting = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": "frame-ancestors 'none'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Content-Length": str(length),
        }
        for name, value in {**lasting, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
