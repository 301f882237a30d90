"""What a server asks of those who may control it: headers and certificates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UsageError

HEADERS_VARIABLE = "TRITON_CANARY_HEADERS"
TOKEN_VARIABLE = "TRITON_CANARY_TOKEN"
# Hiding shorter ones would only garble the text that they are in.
SHORTEST_SECRET = 4

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")


@dataclass(frozen=True, slots=True)
class Access:
    """`headers` (bearer token, the key of a restricted protocol) are secret: never printed, logged or journaled.

    `ca`, `cert` and `key` are PEM files for grpcs:// and https://: whom to trust (default: the system's store), and
    for mTLS who we are; `key` may be left out where `cert` holds both. `server_name`: the name in the server's
    certificate, where a fleet is addressed by IP.

    Raises UsageError, without its value, for a header that cannot be sent.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            # Refused here: the libraries' own errors would repeat the value.
            if not _NAME.fullmatch(name):
                raise UsageError("a header has no name that can be sent")
            if not _VALUE.fullmatch(value):
                raise UsageError(f"the header {name}: its value is empty, or not printable ASCII on one line")
        if self.key and not self.cert:
            raise UsageError(f"{self.key}: a client key without a client certificate")

    @property
    def needs_tls(self) -> bool:
        return any((self.ca, self.cert, self.server_name))

    def hide(self, text: str) -> str:
        """`text` of a foreign server, without any value of ours that it repeats."""
        for value in self.headers.values():
            for secret in (value, value.rpartition(" ")[2]):
                if len(secret) >= SHORTEST_SECRET:
                    text = text.replace(secret, "***")
        return text


def access(
    headers: Sequence[str] = (),
    header_files: Sequence[Path] = (),
    token_file: Path | None = None,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    server_name: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Access:
    """Access from flags, files and environment; for one name flags win over files, and files over the environment.

    A header is "Name: value", in a file or in TRITON_CANARY_HEADERS one a line ("#" begins a comment line).
    `token_file` and TRITON_CANARY_TOKEN hold a bearer token. Raises UsageError, which names the source of a mistake
    and never a value.
    """
    environment = environment or {}
    found: list[tuple[str, str]] = []
    if token := environment.get(TOKEN_VARIABLE, "").strip():
        found.append(_bearer(token, TOKEN_VARIABLE))
    found += _headers(environment.get(HEADERS_VARIABLE, "").splitlines(), HEADERS_VARIABLE)
    if token_file is not None:
        found.append(_bearer(_text(token_file).strip(), str(token_file)))
    for path in header_files:
        found += _headers(_text(path).splitlines(), str(path))
    for number, line in enumerate(headers, 1):
        found.append(_header(line, f"header option {number}"))
    # Names of headers know no case; the last one wins.
    chosen = {name.lower(): (name, value) for name, value in found}
    return Access(dict(chosen.values()), ca, cert, key, server_name)


def _headers(lines: Sequence[str], source: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield _header(line, f"{source}, line {number}")


def _header(line: str, source: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not _NAME.fullmatch(name):
        raise UsageError(f'{source}: is not a header: write "Name: value"')
    if not _VALUE.fullmatch(value):
        raise UsageError(f"{source}: the value of {name} is empty, or not printable ASCII")
    return name, value


def _bearer(token: str, source: str) -> tuple[str, str]:
    if not re.fullmatch(r"[!-~]+", token):
        raise UsageError(f"{source}: holds no bearer token: one word of printable ASCII")
    return "Authorization", f"Bearer {token}"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: cannot be read: not UTF-8") from error
