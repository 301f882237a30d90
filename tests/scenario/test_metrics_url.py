"""One page or several, in every scenario that reads them."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from harness.errors import ScenarioError
from harness.scenario import MultiModelServer, Scenario, json_schema, load
from harness.scenario.loading import read

CANARY = """\
name: pages
target: {{url: "grpc://host:8001"{}}}
baseline: {{model: llm, version: 1}}
candidate: {{model: llm, version: 2}}
stages: [{{mode: paired, rate: 5/s, for: 60s}}]
"""
SERVER = """\
kind: multi-model-server
name: pages
target: {{server_pid: 7{}}}
models:
  one: {{model: a, url: "http://host:8000", rate: 5/s}}
  two: {{model: b, url: "http://host:8000", rate: 5/s}}
"""
TRITON, DCGM = "http://host:8002/metrics", "https://node.example:9400/metrics"


@pytest.mark.parametrize("text", [CANARY, SERVER])
@pytest.mark.parametrize(
    ("said", "pages"),
    [
        ("", ()),
        (", metrics_url: null", ()),
        (f', metrics_url: "{TRITON}"', (TRITON,)),
        (f', metrics_url: ["{TRITON}", "{DCGM}"]', (TRITON, DCGM)),
        (", metrics_url: []", ()),
    ],
)
def test_none_one_or_several(tmp_path: Path, text: str, said: str, pages: tuple[str, ...]) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(text.format(said))
    scenario = load(str(file))
    assert isinstance(scenario, Scenario | MultiModelServer)
    assert scenario.target.metrics_url == pages
    if "null" not in said:
        jsonschema.Draft202012Validator(json_schema()).validate(read(file, "x").data)


@pytest.mark.parametrize("text", [CANARY, SERVER])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("host:8002", "expected a URL such as http://host:8002/metrics, or a list of them, found"),
        (f'["{TRITON}", 8002]', "expected a URL such as http://host:8002/metrics, or a list of them, found 8002"),
        (f'["{TRITON}", "{TRITON}"]', f"{TRITON} is there twice"),
        ("{url: x}", "expected a URL such as"),
        ('"grpc://host:8001"', "expected a URL such as"),
    ],
)
def test_what_is_no_page_is_named_with_its_place(tmp_path: Path, text: str, value: str, message: str) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(text.format(f", metrics_url: {value}"))
    with pytest.raises(ScenarioError) as caught:
        load(str(file))
    assert message in str(caught.value)
    assert caught.value.key.startswith("target.metrics_url")
    assert caught.value.line is not None


@pytest.mark.parametrize("value", [f'"{TRITON}"', f'["{TRITON}"]'])
def test_the_embedded_server_has_its_own(tmp_path: Path, value: str) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(CANARY.format(f", metrics_url: {value}").replace('url: "grpc://host:8001"', "server: embedded"))
    with pytest.raises(ScenarioError, match="the embedded server has its own metrics_url"):
        load(str(file))
