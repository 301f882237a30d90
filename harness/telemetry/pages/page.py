"""A metrics page at an address: of Triton, the DCGM exporter, vLLM or TensorRT-LLM."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from harness.telemetry.pages.dcgm import XID
from harness.telemetry.pages.parse import parse
from harness.telemetry.source import SourceUnavailable, Value


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
        self._client = httpx.Client(timeout=timeout_s, trust_env=False, follow_redirects=True)
        self._xids: dict[str, float] = {}

    def read(self) -> list[Value]:
        mine = [value for value in self.shown() if self._owns(value)]
        return [value for value in mine if value.metric != XID or self._is_new(value)]

    def shown(self) -> list[Value]:
        """All that is on the page now, the last Xid too. Raises SourceUnavailable where nothing of it is known."""
        try:
            response = self._client.get(self.url)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error) or type(error).__name__
            raise SourceUnavailable(f"{self.url}: no metrics: {why}") from error
        if not response.is_success:
            raise SourceUnavailable(f"{self.url}: no metrics: HTTP {response.status_code}")
        try:
            values = parse(response.text)
        except ValueError as error:
            raise SourceUnavailable(f"{self.url}: is not a metrics page: {error}") from error
        if not values:
            raise SourceUnavailable(f"{self.url}: holds no metrics of Triton, the DCGM exporter, vLLM or TensorRT-LLM")
        return values

    def close(self) -> None:
        self._client.close()

    def _owns(self, value: Value) -> bool:
        thing = (value.source, value.device)
        if self._owners.get(thing, self._order) < self._order:
            return False
        self._owners[thing] = self._order
        return True

    def _is_new(self, xid: Value) -> bool:
        """One that was there when the page was first read happened before."""
        before = self._xids.get(xid.device)
        self._xids[xid.device] = xid.value
        return before is not None and xid.value not in (0, before)


def in_order(urls: Sequence[str]) -> list[Page]:
    """Pages that are read together. Where two speak of one thing (two Tritons, both with a `model/version`) the earlier
    counts: counters of two servers in one series would be neither's.
    """
    owners: dict[tuple[str, str], int] = {}
    return [Page(url, order=order, owners=owners) for order, url in enumerate(urls)]
