"""Who looks at the page of a run under way."""

from __future__ import annotations

import http.client
import time

PATIENCE_S = 240


class Client:
    """A connection that is kept, as a browser keeps it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def ask(self, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        self.connection.request(method, path, headers={name.replace("_", "-"): v for name, v in headers.items()})
        answer = self.connection.getresponse()
        return answer.status, dict(answer.headers), answer.read().decode()

    def next_page(self, tag: str = "") -> tuple[dict[str, str], str]:
        """The next page after the one of that tag. What draws it has little of the CPU: until it is there the answer is
        503 or 304, and whoever looks asks again.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            status, headers, text = self.ask(**({"If_None_Match": tag} if tag else {}))
            if status not in (304, 503):
                assert status == 200
                return headers, text
            assert time.monotonic() < deadline, "no page"
