"""From an address to its router."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError
from harness.ingress.address import EXPECTED
from harness.ingress.own import OwnSplit
from harness.ingress.port import Ingress


def open_ingress(target: str) -> Ingress:
    """The router at that address; sends nothing to it yet. Raises UsageError for what is no address."""
    kind = target.partition(":")[0].partition("+")[0]
    if kind == "own":
        return OwnSplit(Path(target.removeprefix(OwnSplit.SCHEME)))
    if kind == "haproxy":
        from harness.ingress.haproxy import HaProxy

        return HaProxy.at(target)
    if kind == "envoy":
        from harness.ingress.envoy import Envoy

        return Envoy.at(target)
    if kind == "webhook":
        from harness.ingress.webhook import Webhook

        return Webhook.at(target)
    raise UsageError(f"{target}: {EXPECTED}")
