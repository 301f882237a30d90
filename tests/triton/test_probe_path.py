"""Which HTTP paths a Kubernetes probe may ask while versions load: the verdicts against the real server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.embedded import EmbeddedServer
from harness.errors import LoadFailed
from harness.triton import Control, probe_path
from tests.triton.conftest import BAD, HELD, MODEL
from tests.triton.held import holding, in_progress

pytestmark = pytest.mark.triton

SAFE = ["/v2", "/v2/health/live"] + [
    f"/v2/models/{MODEL}{version}{page}"
    for version in ("", "/versions/1")
    for page in ("", "/ready", "/config", "/stats")
]
SERVER = "/v2/health/ready"


def test_safe_paths_stay_answered_through_a_load_and_after_one_that_failed(
    server: EmbeddedServer, repository: Path
) -> None:
    with Control(server.http_url) as control:
        control.set_versions(MODEL, [1], repository=repository)
        verdicts = {path: probe_path(control, path).verdict for path in (SERVER, *SAFE)}
        assert verdicts == {SERVER: "unsafe", **dict.fromkeys(SAFE, "safe")}
        with Control(server.grpc_url) as loading, ThreadPoolExecutor(1) as pool:
            with holding(repository, "load"):
                load = in_progress(server, MODEL, pool, lambda: loading.set_versions(MODEL, [1, HELD]))
                answers = {path: control.http_status(path) for path in (SERVER, *SAFE)}
                assert control.index().in_state(MODEL, "LOADING") == (HELD,)
            load.result()
            assert answers == {SERVER: 400, **dict.fromkeys(SAFE, 200)}
            with pytest.raises(LoadFailed):
                loading.set_versions(MODEL, [1, BAD])
            assert {path: control.http_status(path) for path in (SERVER, *SAFE)} == answers


def test_other_paths_are_asked(control: Control) -> None:
    over_http = control.url.startswith("http")
    assert probe_path(control, "/v2/health/ready/?x=1").verdict == "unsafe"
    assert probe_path(control, "/grpc.health.v1.Health/Check").verdict == "unsafe"
    assert str(probe_path(control, "v2/models/tiny/versions/1/ready")).startswith("safe: /v2/models/tiny/versions/1/")
    absent = probe_path(control, "/v2/models/nosuch/ready")
    assert absent.verdict == ("unsafe" if over_http else "safe")
    unknown = probe_path(control, "/healthz")
    if over_http:
        assert str(unknown) == "unsafe: /healthz is answered with HTTP 404 already now"
    else:
        assert str(unknown).startswith("unknown: /healthz is none of Triton's own pages; it cannot be asked over gRPC")
