"""The process that draws and serves the page of a run under way: `python -m harness.run.live`.

It reads lines of JSON on stdin, a pipe whose other end only its parent has: {"folder", "socket"}, the folder of the run
and the descriptor of a socket that listens; and {"ended": true} once the report is written. The end of the pipe ends
it, whatever it does meanwhile. It reads what is on disk, and draws nothing while nobody looks.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from harness.run.live.newest import Newest, Pace
from harness.run.live.serving import Server

GRACE_S = 2.0
"""How long the end is shown to who looks, before the command gives back the terminal."""
AGAIN_S = 1.0
"""Until the folder is looked at again where nothing in it had changed."""
FOLLOWS = "This page follows the run."


def main(task: dict[str, Any]) -> None:
    folder, newest = Path(task["folder"]), Newest()
    server = Server(socket.socket(fileno=task["socket"]), newest)
    threading.Thread(target=server.serve_forever, name="serve", daemon=True).start()
    threading.Thread(target=draw, args=(folder, newest), name="draw", daemon=True).start()
    for line in sys.stdin.buffer:
        if json.loads(line).get("ended"):
            end(folder, newest)
            server.settled(GRACE_S)


def draw(folder: Path, newest: Newest) -> None:
    """Again and again, for those who wait."""
    newest.await_wish()
    # It takes seconds and memory, which a run that nobody looks at keeps.
    from harness.run.live.seen import changed, page

    pace, before, told = Pace(), None, ""
    while True:
        newest.await_wish()
        now = changed(folder)
        if now == before:
            time.sleep(AGAIN_S)
            continue
        pace.wait()
        try:
            if (html := page(folder)) is not None:
                newest.put(html.encode(), FOLLOWS)
                before = now
        except Exception:  # noqa: BLE001 - what is half written must not end the page of the whole run
            if (text := traceback.format_exc()) != told:
                told = text
                print(text, file=sys.stderr, flush=True)
        pace.took()


def end(folder: Path, newest: Newest) -> None:
    """What the page is from now on, also in a browser that nobody closes."""
    report = folder / "report.html"
    try:
        newest.put(report.read_bytes(), f"The run is over. This is its report, {report}", final=True)
    except OSError:
        newest.put(None, "The run is over, and has no report.", final=True)


if __name__ == "__main__":
    main(json.loads(sys.stdin.buffer.readline()))
    os._exit(0)  # nobody waits for a page half drawn
