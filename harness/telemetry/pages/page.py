"""A metrics page at an address: of Triton, the DCGM exporter, vLLM or TensorRT-LLM."""

from __future__ import annotations

import time
from collections.abc import Sequence

import httpx

from harness.telemetry.pages.dcgm import XID
from harness.telemetry.pages.parse import parse
from harness.telemetry.source import SourceUnavailable, Value

LONGEST = 16 << 20
"""Bytes of a page; Triton with a thousand models has one."""
MOST_REDIRECTS = 3


class Page:
    """Sources "triton", "dcgm", "vllm" and "trtllm": named after the families on the page, whoever serves it.

    Devices: `model/version` (without a version where the engine's own server tells), the UUID of a GPU, with `/mig1`
    where it is an instance of it, "server" for Triton itself. Counters of an unloaded version vanish, and begin at 0
    when it is loaded again. A page shows the last Xid of a GPU: a reading of it is made when it changes.

    `owners`: what pages that are read together share, see `in_order`; `order`: the place of this one among them.
    """

    def __init__(
        self, url: str, timeout_s: float = 1.0, *, order: int = 0, owners: dict[tuple[str, str], int] | None = None
    ) -> None:
        self.url = self.name = url
        self._order, self._owners = order, {} if owners is None else owners
        self._client = httpx.Client(timeout=timeout_s, trust_env=False)
        self._timeout_s = timeout_s
        self._xids: dict[str, float] = {}

    def read(self) -> list[Value]:
        mine = [value for value in self.shown() if self._owns(value)]
        return [value for value in mine if value.metric != XID or self._is_new(value)]

    def shown(self) -> list[Value]:
        """All that is on the page now, the last Xid too. Raises SourceUnavailable where nothing of it is known."""
        text = self._text()
        try:
            values = parse(text)
        except ValueError as error:
            raise SourceUnavailable(f"{self.url}: is not a metrics page: {error}") from error
        if not values:
            raise SourceUnavailable(f"{self.url}: holds no metrics of Triton, the DCGM exporter, vLLM or TensorRT-LLM")
        return values

    def close(self) -> None:
        self._client.close()

    def _text(self) -> str:
        """Within about twice the time-out, however slowly the text comes. Only the same server may name another
        address: what else is read is for the scenario to say.
        """
        deadline_s = time.monotonic() + self._timeout_s
        try:
            request = self._client.build_request("GET", self.url)
            for _ in range(MOST_REDIRECTS + 1):
                response = self._client.send(request, stream=True)
                try:
                    if response.next_request is None:
                        return self._body(response, deadline_s)
                finally:
                    response.close()
                if _server(response.next_request.url) != _server(response.url):
                    raise self._none(f"it is at {response.next_request.url}: give that address")
                request = response.next_request
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._none(str(error) or type(error).__name__) from error
        raise self._none("one address leads to another, and so on")

    def _body(self, response: httpx.Response, deadline_s: float) -> str:
        if not response.is_success:
            raise self._none(f"HTTP {response.status_code}")
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > LONGEST:
                raise self._none(f"it is longer than {LONGEST >> 20} MiB")
            if time.monotonic() > deadline_s:
                raise self._none(f"it takes longer than {self._timeout_s:g} s")
        return body.decode(errors="replace")

    def _none(self, why: str) -> SourceUnavailable:
        return SourceUnavailable(f"{self.url}: no metrics: {why}")

    def _owns(self, value: Value) -> bool:
        return self._owners.setdefault((value.source, value.device), self._order) == self._order

    def _is_new(self, xid: Value) -> bool:
        """One that was there when the page was first read happened before."""
        before = self._xids.get(xid.device)
        self._xids[xid.device] = xid.value
        return before is not None and xid.value not in (0, before)


def in_order(urls: Sequence[str]) -> list[Page]:
    """Pages that are read together, in this order. Where two speak of one thing (two Tritons, both with a
    `model/version`) the first that did counts from then on: counters of two servers in one series would be neither's.
    """
    owners: dict[tuple[str, str], int] = {}
    return [Page(url, order=order, owners=owners) for order, url in enumerate(urls)]


def _server(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
