"""What triton-canary believes of Triton, as rows that any server can be measured against.

The rows use Triton's own HTTP API by httpx, never `Control`: they are the reason for what `Control` does. Every row
makes little models of its own, `canary-conformance-<random>`, in the repository, and removes them whatever happens; no
other model is touched.
"""

from harness.triton.conformance import (
    configuration,
    counters,
    failures,
    readiness,
    requests,
    starting,
    versions,
)
from harness.triton.conformance.api import Api
from harness.triton.conformance.measure import REST_S, Rules, check_site, left_over, measure, server_of
from harness.triton.conformance.row import Group, Result, Row
from harness.triton.conformance.site import PREFIX, Addresses, Launch, Site
from harness.triton.conformance.table import markdown

GROUPS: tuple[Group, ...] = (
    versions.GROUP,
    configuration.GROUP,
    failures.GROUP,
    readiness.GROUP,
    requests.GROUP,
    counters.GROUP,
    starting.GROUP,
)

__all__ = [
    "GROUPS",
    "PREFIX",
    "REST_S",
    "Addresses",
    "Api",
    "Group",
    "Launch",
    "Result",
    "Row",
    "Rules",
    "Site",
    "check_site",
    "left_over",
    "markdown",
    "measure",
    "server_of",
]
