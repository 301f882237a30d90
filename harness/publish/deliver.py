"""One request with a body, tried again where that may help."""

from __future__ import annotations

import time

import httpx

from harness.errors import Unreachable, WorldError
from harness.publish.endpoint import Endpoint

TIMEOUT_S = 5.0
PAUSES_S = (0.5, 1.5)
"""Before another try."""
PASSING = (429, 502, 503, 504)
"""What OTLP says may be tried again; of a gateway in front of a Pushgateway it is as true."""


def deliver(method: str, to: Endpoint, content: bytes, content_type: str) -> bytes:
    """What was answered. Raises Unreachable, or WorldError where it was refused; one line, without secrets.

    Proxies and certificates are those of the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE).
    """
    try:
        with httpx.Client(timeout=TIMEOUT_S) as client:
            headers = {**to.headers, "Content-Type": content_type}
            for pause_s in (*PAUSES_S, None):
                try:
                    response = client.request(method, to.url, content=content, headers=headers)
                except httpx.TransportError:
                    if pause_s is None:
                        raise
                else:
                    if pause_s is None or response.status_code not in PASSING:
                        break
                time.sleep(pause_s)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # ValueError: a header that is none
        raise Unreachable(f"{to.shown}: {_said(str(error)) or type(error).__name__}") from error
    if not response.is_success:
        why = _said(response.text)
        raise WorldError(f"{to.shown}: HTTP {response.status_code}" + (f": {why}" if why else ""))
    return response.content


def _said(text: str) -> str:
    """On one line, and no longer than a line."""
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
    return line if len(line) <= 200 else f"{line[:197]}..."
