"""What became of a request, in the few words that a Sample has for it.

`status` is from the closed set of `harness.types.Status`; `error` is a class that stays the same from one
request to the next (so that it can be counted); `code` is what the protocol said.
"""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import dataclass

from harness.failures import BROKEN, Kind, kind_of
from harness.types import Status


@dataclass(frozen=True, slots=True)
class Failure:
    status: Status
    error: str
    code: str
    message: str = ""


_KINDS: dict[Kind, tuple[Status, str]] = {
    "out of memory": ("oom", "out of memory"),
    "time-out": ("timeout", "server timeout"),
    "queue full": ("refused", "queue full"),
    "stub died": ("error", "stub died"),
    "server died": ("error", BROKEN),
}
"""Whether it was the server that died is not for whoever lost a connection to say."""

GENERATOR = "generator out of sockets"
"""The error of a request that this machine had no file descriptor or port for."""
_OURS = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS)

EMPTY = Failure("error", "empty", "")
TIMEOUT = Failure("timeout", "deadline", "TIMEOUT")
NEVER_SENT = Failure("timeout", "no free connection", "TIMEOUT")
"""Its deadline came while it waited for one of the connections that it may use."""
CANCELLED = Failure("cancelled", "cancelled", "CANCELLED")


def of_grpc(code: str, message: str) -> Failure:
    """A gRPC status, by its name (`UNAVAILABLE`), as the client saw it."""
    if code == "DEADLINE_EXCEEDED":
        return Failure("timeout", "deadline", code, message)
    if code == "CANCELLED":
        return Failure("cancelled", "cancelled", code, message)
    unavailable = code == "UNAVAILABLE"
    if (told := _told(message, code, refused=unavailable)) is not None:
        return told
    if unavailable:
        return Failure("refused", "unavailable", code, message)
    return Failure("error", code.lower() or "error", code, message)


def of_stream(message: str) -> Failure:
    """An error that came inside a stream: Triton gives a message there, and no status."""
    return _told(message, "STREAM") or Failure("error", "model error", "STREAM", message)


def of_http(status: int, message: str) -> Failure:
    """An HTTP answer other than 200."""
    code = str(status)
    if (told := _told(message, code, refused=status == 503)) is not None:
        return told
    if status == 503:
        return Failure("refused", "unavailable", code, message)
    return Failure("error", f"http {status}", code, message)


def _told(message: str, code: str, *, refused: bool = False) -> Failure | None:
    """By what is said of it; None where that says nothing. `refused`: whoever says so has turned the request away."""
    kind = kind_of(message, code)
    if kind == "other":
        return None
    status, error = _KINDS[kind]
    return Failure("refused" if refused and status == "error" else status, error, code, message)


def of_os_error(error: OSError, *, was_there: bool = False) -> Failure:
    """A connection that could not be made, or broke. `was_there`: one could be made to the same address before."""
    message = str(error)
    code = type(error).__name__
    if isinstance(error, ssl.SSLError):
        # Its errno counts in its own way: 1 is SSL_ERROR_SSL there, not EPERM.
        return Failure("error", "tls", getattr(error, "reason", None) or code, message)
    if not isinstance(error, socket.gaierror):
        code = errno.errorcode.get(error.errno or 0, code)
    if error.errno in _OURS:
        # Not the server's doing: nobody failed but the generator, and `validity.generator` says so.
        return Failure("cancelled", GENERATOR, code, message)
    if isinstance(error, TimeoutError):
        return Failure("timeout", "deadline", "TIMEOUT", message)
    if isinstance(error, ConnectionRefusedError):
        return Failure("refused", "server died" if was_there else "connection refused", code, message)
    if isinstance(error, ConnectionError):
        return Failure("error", BROKEN, code, message)
    return Failure("refused", "no connection", code, message)
