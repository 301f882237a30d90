"""Several servers behind one name, and the waves in which they are changed."""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import Callable, Sequence

from harness.errors import Unreachable, UsageError
from harness.triton.access import Access
from harness.triton.address import split_url

# Host name and port to addresses, as text. DNS here; Kubernetes' EndpointSlices fit behind the same call.
Resolve = Callable[[str, int], Sequence[str]]


def dns(host: str, port: int) -> Sequence[str]:
    """All addresses of `host`, IPv4 and IPv6. Raises Unreachable if it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"{host}: has no address ({error.strerror})") from error
    return [str(entry[4][0]) for entry in found]


def addresses(url: str, resolve: Resolve = dns) -> tuple[str, ...]:
    """One URL for each server behind `url`, in the order of their addresses.

    A name with one address stays a name: proxies and certificates know it. Raises UsageError for what is no
    server address, Unreachable where the name has no address.
    """
    parts = split_url(url)
    found = sorted(set(resolve(parts.host.strip("[]"), parts.port)), key=_order)
    if len(found) < 2:
        return (url,)
    return tuple(
        dataclasses.replace(parts, host=f"[{address}]" if ":" in address else address).url for address in found
    )


def named(access: Access, url: str) -> Access:
    """`access` for the addresses of `url`: over TLS they must show the certificate of its name."""
    parts = split_url(url)
    if not parts.tls or access.server_name:
        return access
    return dataclasses.replace(access, server_name=parts.host.strip("[]"))


def waves(urls: Sequence[str], max_unavailable: str | int) -> list[list[str]]:
    """`urls` in order, in groups of at most `max_unavailable`: a number, or a share of them such as "25%".

    A share is rounded down, as Kubernetes does, but never to nothing. Raises UsageError where it is neither.
    """
    text = str(max_unavailable).strip()
    match = re.fullmatch(r"(\d+)(%?)", text)
    number = int(match[1]) if match else 0
    if not match or number < 1 or (match[2] and number > 100):
        raise UsageError(f"max-unavailable is a number of servers from 1, or a share such as 25%, not {text!r}")
    size = max(1, len(urls) * number // 100) if match[2] else number
    return [list(urls[start : start + size]) for start in range(0, len(urls), size)]


def _order(address: str) -> tuple[bool, bytes]:
    is_v6 = ":" in address
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    return is_v6, socket.inet_pton(family, address.partition("%")[0])
