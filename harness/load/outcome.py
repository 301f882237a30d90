"""What became of a request, in the few words that a Sample has for it.

`status` is from the closed set of `harness.types.Status`; `error` is a class that stays the same from one
request to the next (so that it can be counted); `code` is what the protocol said.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from dataclasses import dataclass

from harness.types import Status


@dataclass(frozen=True, slots=True)
class Failure:
    status: Status
    error: str
    code: str
    message: str = ""


_OUT_OF_MEMORY = re.compile(
    r"out of memory|out-of-memory|\boom\b|cudaErrorMemoryAllocation|failed to allocate|bad_alloc|"
    r"no free blocks|CUDA_ERROR_OUT_OF_MEMORY|MemoryError",
    re.IGNORECASE,
)
_TIMED_OUT = re.compile(r"\btimed?[ -]?out\b|\btimeout\b|deadline exceeded", re.IGNORECASE)

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
    if _OUT_OF_MEMORY.search(message):
        return Failure("oom", "out of memory", code, message)
    if code == "UNAVAILABLE":
        return Failure("refused", "unavailable", code, message)
    return Failure("error", code.lower() or "error", code, message)


def of_stream(message: str) -> Failure:
    """An error that came inside a stream: Triton gives a message there, and no status."""
    if _OUT_OF_MEMORY.search(message):
        return Failure("oom", "out of memory", "STREAM", message)
    if _TIMED_OUT.search(message):
        return Failure("timeout", "server timeout", "STREAM", message)
    return Failure("error", "model error", "STREAM", message)


def of_http(status: int, message: str) -> Failure:
    """An HTTP answer other than 200."""
    code = str(status)
    if _OUT_OF_MEMORY.search(message):
        return Failure("oom", "out of memory", code, message)
    if status in (408, 504) or (status == 503 and _TIMED_OUT.search(message)):
        return Failure("timeout", "server timeout", code, message)
    if status == 503:
        return Failure("refused", "unavailable", code, message)
    return Failure("error", f"http {status}", code, message)


def of_os_error(error: OSError) -> Failure:
    """A connection that could not be made, or broke."""
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
        return Failure("refused", "connection refused", code, message)
    if isinstance(error, ConnectionError):
        return Failure("error", "connection broken", code, message)
    return Failure("refused", "no connection", code, message)
