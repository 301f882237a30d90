"""The head of an HTTP/1.1 request, and Triton's paths."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from harness.errors import UsageError
from harness.load.spec import host_of
from harness.types import Arm

# They say where the message ends or how it travels; an arm's own would break it.
_FRAMING = frozenset(
    {"content-length", "transfer-encoding", "connection", "inference-header-content-length", "expect", "upgrade"}
)


def model_path(arm: Arm, verb: str) -> str:
    """Such as v2/models/M/versions/2/infer."""
    version = "" if arm.version is None else f"/versions/{arm.version}"
    return f"v2/models/{quote(arm.model, safe='')}{version}/{verb}"


def head(arm: Arm, path: str, length: int, headers: Mapping[str, str]) -> bytes:
    """POST `path` below the arm's address with a body of `length` bytes; ends with the empty line.

    The arm's own headers take the place of `headers` of the same name.
    Raises UsageError for a header that cannot be sent.
    """
    base = arm.url.partition("://")[2].partition("/")[2].strip("/")
    fields = {"Host": host_of(arm.url), "User-Agent": "triton-canary", "Content-Type": "application/json", **headers}
    own = {name.lower() for name in arm.headers}
    fields = {name: value for name, value in fields.items() if name.lower() not in own}
    for name, value in arm.headers.items():
        if name.lower() in _FRAMING:
            raise UsageError(f"the header {name!r} frames the request: it cannot be set")
        if any(byte in f"{name}{value}" for byte in "\r\n\0") or not name.isascii():
            raise UsageError(f"the header {name!r} holds a line break or a character that headers have not")
        fields[name] = value
    lines = [f"POST {'/' + base if base else ''}/{path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    try:
        return ("\r\n".join(lines) + f"\r\nContent-Length: {length}\r\n\r\n").encode("latin-1")
    except UnicodeEncodeError as error:
        raise UsageError(f"{arm.url}: a header or the path holds {error.object[error.start]!r}") from error
