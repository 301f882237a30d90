"""Where figures are sent to. Nothing is opened here, so that a mistake is told before a run begins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

OTLP_PATH = "/v1/metrics"
OTLP_PROTOCOL = "http/protobuf"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Its name, by RFC 9110."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url` is called as it is. `headers` may hold a secret, and so may a user's part of `url`: see `shown`."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def shown(self) -> str:
        """The address for people: without user, password and query."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def address(text: str) -> str:
    """`text`, where it is one that can be called. Raises ValueError, which holds no password and no query."""
    user, at, place = text.partition("?")[0].rpartition("@")
    expected = f"expected an address such as http://host:9091, found {('...' if user else '') + at + place!r}"
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and text.isprintable()
    except ValueError as error:  # a port that is none, half an IPv6 address
        raise ValueError(expected) from error
    if not known or " " in text:
        raise ValueError(expected)
    return text


def otlp_endpoint(given: str | None, environment: Mapping[str, str]) -> Endpoint:
    """Where OTLP goes to: the address that was given, or what OpenTelemetry's variables say. Raises ValueError.

    To a base address `/v1/metrics` is added; OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is taken as it is. Of several
    variables the one for metrics counts, as in the specification of OTLP exporters; with a given address none does.
    """
    if given is not None:
        return Endpoint(_metrics(address(given)))

    def said(name: str) -> str:
        return environment.get(f"OTEL_EXPORTER_OTLP_METRICS_{name}") or environment.get(
            f"OTEL_EXPORTER_OTLP_{name}", ""
        )

    protocol = said("PROTOCOL") or OTLP_PROTOCOL
    if protocol != OTLP_PROTOCOL:
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}: only {OTLP_PROTOCOL} can be sent")
    own = environment.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not own and not base:
        raise ValueError("give an address, or set OTEL_EXPORTER_OTLP_ENDPOINT")
    return Endpoint(address(own) if own else _metrics(address(base or "")), _headers(said("HEADERS")))


def _metrics(base: str) -> str:
    parts = urlsplit(base)
    path = parts.path.rstrip("/")
    path = path if path.endswith(OTLP_PATH) else path + OTLP_PATH
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _headers(text: str) -> dict[str, str]:
    """`key=value,key=value`; what URLs need to escape is escaped there, too."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ValueError("OTEL_EXPORTER_OTLP_HEADERS: expected key=value, several with commas between them")
        name, content = unquote(key.strip()), unquote(value.strip())
        if not _HEADER.fullmatch(name) or not (content.isascii() and content.isprintable()):
            raise ValueError("OTEL_EXPORTER_OTLP_HEADERS: a name or a value there is nothing that a header can hold")
        found[name] = content
    return found
