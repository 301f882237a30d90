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

PATIENCE_S = 1.0
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
        found = _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)
    except OSError as error:
        raise WorldError(f"{arm.url}: {error.strerror or error}") from error
    family, sockaddr = _first_that_answers([(family, sockaddr) for family, _, _, _, sockaddr in found])
    tls = _context(arm.tls or Tls(), arm) if parts.scheme in ("https", "grpcs") else None
    name = (arm.tls.server_name if arm.tls else None) or host
    return Address(family, sockaddr, name, parts.netloc.rpartition("@")[2], tls)


def _first_that_answers(places: list[tuple[int, Any]]) -> tuple[int, Any]:
    """A name may have an address that nobody listens on (localhost: ::1, and a server on 127.0.0.1)."""
    for family, sockaddr in places if len(places) > 1 else ():
        attempt = _socket.socket(family, _socket.SOCK_STREAM)
        try:
            attempt.settimeout(PATIENCE_S)
            attempt.connect(sockaddr)
        except OSError:
            continue
        else:
            return family, sockaddr
        finally:
            attempt.close()
    return places[0]


def _context(tls: Tls, arm: Arm) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:
        raise WorldError(f"{arm.url}: its certificates: {error.strerror or error}") from error
    context.set_alpn_protocols(["h2"] if arm.url.startswith("grpc") else ["http/1.1"])
    return context
