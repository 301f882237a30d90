"""Server-sent events from the pieces of a body, each event with the time of the piece that completed it.

Pieces come as the network cut them: in the middle of a character, of a line, of an event, or many events at once.
Source: the event stream format of the HTML standard, section 9.2.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LONGEST_END = 4


def events(pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """(arrival, data) of every event that has data. What an unfinished last line holds is given as an event, too: its
    sender may have left out the empty line, and if it was cut short then its data cannot be read.
    """
    rest = b""
    last_ns = -1
    for t_ns, piece in pieces:
        last_ns = t_ns
        # Only the end of what is known can be the beginning of an end.
        start = max(0, len(rest) - _LONGEST_END)
        rest = rest + piece if rest else piece
        begin = 0
        while found := _END.search(rest, start):
            data = _data(rest[begin : found.start()])
            if data:
                yield t_ns, data
            begin = start = found.end()
        rest = rest[begin:]
    if data := _data(rest):
        yield last_ns, data


def _data(event: bytes) -> bytes:
    """The data lines of one event; comments and other fields are passed over."""
    if event.startswith(b"data: ") and b"\n" not in event and b"\r" not in event:
        return event[6:]
    lines = []
    for line in event.splitlines():
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value.startswith(b" ") else value)
    return b"\n".join(lines)
