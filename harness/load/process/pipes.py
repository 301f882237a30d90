"""The two ends of the protocol with the parent: JSON lines in on stdin, out on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import gevent.os


class Pipes:
    """Claims stdin and stdout for the protocol alone: Locust reads keys from the one and prints to the other."""

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        gevent.os.make_nonblocking(self._in)

    def commands(self) -> Iterator[dict[str, Any]]:
        """What the parent says, until its end is closed."""
        rest: list[bytes] = []  # of a line of megabytes: joined once
        while data := gevent.os.nb_read(self._in, 1 << 20):
            *lines, last = data.split(b"\n")
            for line in lines:
                yield json.loads(b"".join((*rest, line)))
                rest = []
            rest.append(last)

    def emit(self, event: dict[str, Any]) -> None:
        """May be called from any thread: a line is one write."""
        try:
            os.write(self._out, json.dumps(event).encode() + b"\n")
        except BrokenPipeError:
            # The harness was killed; the end of stdin says so, too.
            return
