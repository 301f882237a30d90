"""Where an arm is, looked up once before the clock runs, and how its TLS is to be."""

from __future__ import annotations

# The C function: gevent replaces the one in `socket`.
import _socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from harness.errors import UsageError, WorldError
from harness.types import Arm, Tls

_PORTS = {"http": 80, "https": 443, "grpc": 80, "grpcs": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """`name` is the host's, as TLS checks it; `authority` is host:port as HTTP names it."""

    family: int
    sockaddr: tuple[Any, ...]
    name: str
    authority: str
    tls: ssl.SSLContext | None


def resolve(arm: Arm) -> Address:
    """Raises UsageError for an address that is none, WorldError where its host or a PEM file cannot be found."""
    parts = urlsplit(arm.url)
    try:
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise UsageError(f"{arm.url}: {error}") from error
    if not host or not port:
        raise UsageError(f"{arm.url}: expected grpc, grpcs, http or https://host:port")
    try:
        family, _, _, _, sockaddr = _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)[0]
    except OSError as error:
        raise WorldError(f"{arm.url}: {error.strerror or error}") from error
    tls = _context(arm.tls or Tls(), arm) if parts.scheme in ("https", "grpcs") else None
    name = (arm.tls.server_name if arm.tls else None) or host
    return Address(family, sockaddr, name, parts.netloc.rpartition("@")[2], tls)


def _context(tls: Tls, arm: Arm) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:
        raise WorldError(f"{arm.url}: its certificates: {error.strerror or error}") from error
    context.set_alpn_protocols(["h2"] if arm.url.startswith("grpc") else ["http/1.1"])
    return context
