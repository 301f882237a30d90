"""Pages over HTTP, whose text a test changes; recorded and built ones lie in pages/."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGES = Path(__file__).parent / "pages"


def recorded(name: str) -> str:
    return (PAGES / f"{name}.txt").read_text()


@contextmanager
def serving(pages: dict[str, str]) -> Iterator[str]:
    """The address before `/NAME`; a name that `pages` lacks is a 404; a text "-> /OTHER" sends whoever asks there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = pages.get(self.path.removeprefix("/"))
            body = (text or "").encode()
            self.send_response(404 if text is None else 307 if text.startswith("-> ") else 200)
            if text is not None and text.startswith("-> "):
                self.send_header("Location", text.removeprefix("-> "))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
