"""Whether a Kubernetes probe on some HTTP path would take a healthy version out of service when another loads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from harness.triton.control import Control

# The second is what a Kubernetes probe of kind `grpc` asks.
SERVER_READY = ("/v2/health/ready", "/grpc.health.v1.Health/Check")
SERVER_LIVE = "/v2/health/live"
# Measured: these answer for what serves, before, during and after a load, also one that fails.
_OF_A_MODEL = re.compile(r"/v2/models/([^/]+)(/versions/(\d+))?(/ready|/config|/stats)?")


@dataclass(frozen=True, slots=True)
class ProbePath:
    """`verdict` on a path, and the reason in a sentence; "unknown" where nobody can tell beforehand."""

    verdict: Literal["safe", "unsafe", "unknown"]
    reason: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.reason}"


def probe_path(control: Control, path: str) -> ProbePath:
    """What a probe on `path` of this server would do to a version that serves while another one loads or fails to.

    A path is also asked once, unless `control` speaks gRPC. Raises Unreachable.
    """
    path = "/" + path.strip().partition("?")[0].strip("/")
    if path in SERVER_READY:
        return ProbePath(
            "unsafe",
            f"{path} is the readiness of the whole server: Triton says no there while any version loads and, after a "
            "load that failed, until that very version loads or the server restarts, however well the others serve; "
            "probe /v2/models/MODEL/versions/VERSION/ready or /v2/models/MODEL/ready instead",
        )
    status = control.http_status(path)
    if status is not None and not 200 <= status < 400:
        return ProbePath("unsafe", f"{path} is answered with HTTP {status} already now")
    if path == SERVER_LIVE:
        return ProbePath("safe", f"{path} says that the server is up, which no load changes (and nothing of a model)")
    if match := _OF_A_MODEL.fullmatch(path):
        whom = f"version {match[3]} of {match[1]}" if match[3] else f"any version of {match[1]}"
        return ProbePath("safe", f"{path} is answered as long as {whom} serves, whatever else loads or fails to")
    if path == "/v2":
        return ProbePath("safe", f"{path} describes the server, which no load changes (and says nothing of a model)")
    now = "cannot be asked over gRPC" if status is None else f"is answered with HTTP {status} now"
    return ProbePath("unknown", f"{path} is none of Triton's own pages; it {now}, and during a load is anyone's guess")
