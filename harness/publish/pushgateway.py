"""Prometheus' Pushgateway: the figures of a verdict, never samples.

A push replaces what the same group had (job `triton-canary` and the scenario), so that no finding of the last run
stands beside those of this one.
"""

from __future__ import annotations

import base64
from urllib.parse import quote, urlsplit, urlunsplit

from harness.publish.deliver import deliver
from harness.publish.endpoint import Endpoint

JOB = "triton-canary"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def push(address: str, text: str, scenario: str) -> None:
    """Replaces the group's figures by `text`, gauges in the text format. Raises Unreachable or WorldError.

    `address`: of the Pushgateway; one with `/metrics/job/` in it is the address of a group already.
    """
    deliver("PUT", Endpoint(group(address, scenario)), text.encode(), CONTENT_TYPE)


def group(address: str, scenario: str) -> str:
    """The address of the scenario's group."""
    parts = urlsplit(address)
    if "/metrics/job/" in parts.path:
        return address
    path = f"{parts.path.rstrip('/')}/metrics/job/{JOB}/{_label('scenario', scenario)}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _label(name: str, value: str) -> str:
    """A label as part of a path: what has a slash in it, is nothing, or a step in the path, goes in base64."""
    if value.strip(".") and "/" not in value:
        return f"{name}/{quote(value, safe='')}"
    return f"{name}@base64/{base64.urlsafe_b64encode(value.encode()).decode().rstrip('=') or '='}"
