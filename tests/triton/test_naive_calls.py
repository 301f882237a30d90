"""What the calls that everybody writes first really do. Pins the facts that harness/triton stands on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.embedded import EmbeddedServer
from harness.triton import Control, read_config
from tests.triton.conftest import GOOD, MODEL, stubs

pytestmark = pytest.mark.triton


def http_url(http: httpx.Client) -> str:
    return str(http.base_url).removesuffix("/v2/")


def load(http: httpx.Client, parameters: dict[str, Any]) -> httpx.Response:
    return http.post(f"/repository/models/{MODEL}/load", json={"parameters": parameters})


def specific(config: dict[str, Any], versions: list[int]) -> dict[str, str]:
    return {"config": json.dumps({**config, "version_policy": {"specific": {"versions": versions}}})}


def serving(http: httpx.Client) -> list[int]:
    rows = http.post("/repository/index", json={}).json()
    return [int(row["version"]) for row in rows if row["name"] == MODEL and row.get("state") == "READY"]


@pytest.fixture
def both(http: httpx.Client) -> httpx.Client:
    """Versions 1 and 2 are READY."""
    with Control(http_url(http)) as control:
        control.set_versions(MODEL, [1, GOOD])
    assert serving(http) == [1, GOOD]
    return http


def test_load_of_one_version_fails(http: httpx.Client) -> None:
    response = load(http, {"version": str(GOOD)})
    assert response.status_code == 500
    assert response.json() == {"error": "unexpected error on creating Triton parameter"}
    assert serving(http) == [1]


def test_unload_of_one_version_is_an_outage(both: httpx.Client) -> None:
    response = both.post(f"/repository/models/{MODEL}/unload", json={"parameters": {"version": str(GOOD)}})
    assert response.status_code == 200
    assert serving(both) == []


def test_naming_a_version_without_a_directory_drops_another_in_silence(both: httpx.Client) -> None:
    config = both.get(f"/models/{MODEL}/config").json()
    assert load(both, specific(config, [1, 9])).status_code == 200
    assert serving(both) == [1]


@pytest.mark.parametrize("touched", [False, True])
def test_a_version_whose_folder_changed_is_initialised_anew(
    both: httpx.Client, server: EmbeddedServer, repository: Path, touched: bool
) -> None:
    """As by the `__pycache__` of the Python backend's stub; `compile_models` keeps ours from doing so."""
    processes = stubs(server, 1)
    if touched:
        os.utime(repository / MODEL / "1")
    with Control(http_url(both)) as control:
        control.set_versions(MODEL, [1])
    assert processes
    assert (stubs(server, 1) == processes) is not touched


def test_override_of_the_policy_alone_replaces_the_whole_configuration(http: httpx.Client, repository: Path) -> None:
    with Control(http_url(http)) as control:
        control.unload(MODEL)
        assert load(http, specific({}, [1])).status_code == 200
        assert control.metadata(MODEL).inputs == ()
        control.unload(MODEL)
        assert load(http, specific(read_config(repository / MODEL / "config.pbtxt"), [1])).status_code == 200
        assert [tensor.name for tensor in control.metadata(MODEL).inputs] == ["INPUT"]


def test_request_without_a_version_goes_to_the_highest(both: httpx.Client) -> None:
    body = {"inputs": [{"name": "INPUT", "shape": [16], "datatype": "FP32", "data": [1.0] * 16}]}
    assert both.post(f"/models/{MODEL}/infer", json=body).json()["model_version"] == str(GOOD)
