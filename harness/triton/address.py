"""A server's URL, and the wire protocol that it chooses."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.errors import UsageError
from harness.triton.access import Access
from harness.triton.over_grpc import GrpcTransport
from harness.triton.over_http import HttpTransport
from harness.triton.transport import Transport

# Triton's own; its HTTP speaks no TLS, so https:// is a proxy in front of it.
DEFAULT_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a server's URL; `host` of an IPv6 address keeps its brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def tls(self) -> bool:
        return self.scheme.endswith("s")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"


def open_transport(url: str, access: Access, timeout_s: float) -> Transport:
    """A transport for `url`; nothing is sent yet. UsageError: no such address, or certificates without TLS."""
    parts = split_url(url)
    if access.needs_tls and not parts.tls:
        raise UsageError(f"{url}: certificates are given, but this address is not encrypted: write {parts.scheme}s://")
    if parts.scheme.startswith("grpc"):
        return GrpcTransport(url, f"{parts.host}:{parts.port}", access, timeout_s, tls=parts.tls)
    return HttpTransport(url, parts.url, access, timeout_s, tls=parts.tls)


def split_url(url: str) -> Address:
    """Raises UsageError, naming what is wrong with `url`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url}: is not a server address: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{parts.hostname}: an address holds no credentials, they would be printed: give a header")
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise UsageError(f"{url}: is not a server address: write grpc://host:8001 or http://host:8000")
    if parts.scheme.startswith("grpc") and parts.path.strip("/"):
        raise UsageError(f"{url}: a gRPC address has no path")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], parts.path.rstrip("/"))
