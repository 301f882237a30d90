"""Addresses of routers: one line that says everything, in a scenario, on the command line and in a journal.

    own:/run/split.json
    haproxy+unix:///run/haproxy/admin.sock?backend=canary&baseline=v1&candidate=v2
    haproxy+tcp://127.0.0.1:9999?backend=canary
    envoy+http://127.0.0.1:9901?key=canary.candidate&baseline=v1&candidate=v2
    webhook+https://router.example/split

What comes after the question mark says what the router calls things; each has a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from harness.errors import UsageError

EXPECTED = (
    "expected haproxy+unix:///path/admin.sock, haproxy+tcp://host:port, envoy+http://host:port or "
    "webhook+http://host/path"
)


@dataclass(frozen=True, slots=True)
class Address:
    """`kind`: haproxy, envoy, webhook. `scheme`: unix, tcp, http, https. `place`: a path or host:port. `path`: what
    follows host:port. `names`: every option, defaults included.
    """

    kind: str
    scheme: str
    place: str
    path: str
    names: Mapping[str, str]

    @classmethod
    def of(cls, target: str, defaults: Mapping[str, str], schemes: tuple[str, ...]) -> Address:
        """Raises UsageError: one line, for what is no such address, or has options that the router does not know."""
        url = urlsplit(target)
        kind, plus, scheme = url.scheme.partition("+")
        where = url.path if scheme == "unix" else url.netloc
        if not plus or scheme not in schemes or not where or (scheme == "unix" and url.netloc):
            raise UsageError(f"{target}: {EXPECTED}")
        if url.username or url.password:
            raise UsageError(f"{kind}+{scheme}://{url.hostname}: an address holds no password; the environment may")
        given = dict(parse_qsl(url.query, keep_blank_values=True))
        for name, value in given.items():
            if name not in defaults or not value:
                known = ", ".join(f"{key}=..." for key in defaults)
                raise UsageError(f"{target}: {name}={value}: expected one of {known}")
        return cls(kind, scheme, where, "" if scheme == "unix" else url.path, {**defaults, **given})

    def __str__(self) -> str:
        slashes = f"{self.kind}+{self.scheme}://{self.place}{self.path}"
        return f"{slashes}?{urlencode(self.names, safe='/')}" if self.names else slashes
