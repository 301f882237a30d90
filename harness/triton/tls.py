"""Certificates for grpcs:// and https://, checked before they are used: each error names its file."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc

from harness.errors import UsageError
from harness.triton.access import Access


def http_context(access: Access) -> ssl.SSLContext:
    """What httpx verifies the server by, and shows of us. Raises UsageError."""
    try:
        context = ssl.create_default_context(cafile=access.ca)
    except ssl.SSLError as error:
        raise UsageError(f"{access.ca}: holds no certificate in PEM form") from error
    except OSError as error:
        raise UsageError(f"{access.ca}: cannot be read: {error.strerror}") from error
    if access.cert is not None:
        for path in filter(None, (access.cert, access.key)):
            _bytes(path)
        try:
            # An encrypted key would ask at the terminal for its password; the empty one fails instead.
            context.load_cert_chain(access.cert, access.key, password="")
        except ssl.SSLError as error:
            key = access.key or access.cert
            raise UsageError(
                f"{access.cert}: no client certificate in PEM form, or {key} is not its unencrypted key"
            ) from error
    return context


def grpc_credentials(access: Access) -> Any:
    """The same for gRPC, which reads bytes and reports a bad file as a server that does not answer."""
    http_context(access)
    # Without one gRPC would trust the list that it brings along, not the system's.
    ca = access.ca or ssl.get_default_verify_paths().cafile
    roots = _bytes(Path(ca)) if ca else None
    if access.cert is None:
        return grpc.ssl_channel_credentials(roots)
    return grpc.ssl_channel_credentials(roots, _bytes(access.key or access.cert), _bytes(access.cert))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
