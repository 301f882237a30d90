"""What a server asks of those who may control it: headers and certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Access:
    """`headers` (bearer token, the key of a restricted protocol) are secret: never printed, logged or journaled.

    `ca`, `cert` and `key` are PEM files for grpcs:// and https://: whom to trust (default: the system's store), and
    for mTLS who we are. `server_name`: the name in the server's certificate, where a fleet is addressed by IP.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None
