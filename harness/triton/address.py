"""A server's URL, and the wire protocol that it chooses."""

from __future__ import annotations

from urllib.parse import urlsplit

from harness.errors import UsageError
from harness.triton.access import Access
from harness.triton.over_grpc import GrpcTransport
from harness.triton.over_http import HttpTransport
from harness.triton.transport import Transport

DEFAULT_PORTS = {"grpc": 8001, "http": 8000}


def open_transport(url: str, access: Access, timeout_s: float) -> Transport:
    """A transport for `url`; nothing is sent yet. Raises UsageError where `url` is not grpc:// or http://."""
    parts = split_url(url)
    if parts.scheme == "grpc":
        return GrpcTransport(url, f"{parts.host}:{parts.port}", access.headers, timeout_s)
    return HttpTransport(url, f"http://{parts.host}:{parts.port}{parts.path}", access.headers, timeout_s)


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
