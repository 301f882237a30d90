"""What Control asks of a wire protocol, and how a URL chooses one.

Two answers of the world are kept apart: nobody answers (Unreachable), and Triton answers "no" (RefusedError).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from harness.errors import UsageError, WorldError

DEFAULT_PORTS = {"grpc": 8001, "http": 8000}


class RefusedError(WorldError):
    """Triton answered, and the answer is an error. `unknown`: it knows no such model or version.

    `timed_out`: it accepted the call and had not finished when our patience ended; it may still be at work.
    """

    def __init__(self, message: str, *, unknown: bool = False, timed_out: bool = False) -> None:
        super().__init__(one_line(message))
        self.unknown, self.timed_out = unknown, timed_out


class Transport(Protocol):
    """Triton's control calls. Each raises Unreachable or RefusedError, within its timeout.

    Answers have the JSON form of the KServe v2 protocol and its repository extension, whatever the wire.
    """

    url: str

    def live(self) -> bool: ...

    def server_ready(self) -> bool: ...

    def ready(self, model: str, version: int) -> bool: ...

    def server(self) -> dict[str, Any]: ...

    def index(self) -> list[dict[str, Any]]: ...

    def metadata(self, model: str, version: int | None) -> dict[str, Any]: ...

    def config(self, model: str, version: int | None) -> dict[str, Any]: ...

    def load(self, model: str, config: str | None, timeout_s: float) -> None: ...

    def unload(self, model: str, timeout_s: float) -> None: ...

    def close(self) -> None: ...


def open_transport(url: str, headers: Mapping[str, str], timeout_s: float) -> Transport:
    """A transport for `url`; nothing is sent yet. Raises UsageError where `url` is not grpc:// or http://."""
    parts = split_url(url)
    # Imported here: the two import this module.
    if parts.scheme == "grpc":
        from harness.triton.over_grpc import GrpcTransport

        return GrpcTransport(url, f"{parts.host}:{parts.port}", headers, timeout_s)
    from harness.triton.over_http import HttpTransport

    return HttpTransport(url, f"http://{parts.host}:{parts.port}{parts.path}", headers, timeout_s)


class Address:
    """The parts of a server's URL; `host` of an IPv6 address keeps its brackets."""

    def __init__(self, scheme: str, host: str, port: int, path: str) -> None:
        self.scheme, self.host, self.port, self.path = scheme, host, port, path


def split_url(url: str) -> Address:
    """Raises UsageError, naming what is wrong with `url`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url}: is not a server address: {error}") from error
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise UsageError(f"{url}: is not a server address: write grpc://host:8001 or http://host:8000")
    if parts.scheme == "grpc" and parts.path.strip("/"):
        raise UsageError(f"{url}: a gRPC address has no path")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], parts.path.rstrip("/"))


def one_line(text: str) -> str:
    return " ".join(text.split())
