"""A live page of a real Triton: its response cache, and versions that go and come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.telemetry import Page, Value
from harness.triton import Control
from tests.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder: Path = tmp_path_factory.mktemp("cache")
    build_repository(folder / "models", {"tiny": {1: {}, 2: {}}})
    config = folder / "models" / "tiny" / "config.pbtxt"
    config.write_text(config.read_text() + "\nresponse_cache { enable: true }\n")
    arguments = [f"--cache-directory={_caches()}", "--cache-config=local,size=1048576"]
    with EmbeddedServer(folder / "models", folder / "triton.log", arguments=arguments) as running:
        yield running.start({"tiny": [1, 2]})


def _caches() -> Path:
    import pytriton

    return Path(pytriton.__file__).parent / "tritonserver" / "caches"


@pytest.mark.triton
def test_the_response_cache_of_a_real_triton_is_counted_by_version(server: EmbeddedServer) -> None:
    page = Page(server.metrics_url, timeout_s=60)

    def ask(version: int, number: float) -> None:
        body = {"inputs": [{"name": "INPUT", "shape": [16], "datatype": "FP32", "data": [number] * 16}]}
        url = f"{server.http_url}/v2/models/tiny/versions/{version}/infer"
        httpx.post(url, json=body, timeout=60).raise_for_status()

    for number in range(6):
        ask(1, 1.0)
        ask(2, float(number))

    def counted(*metrics: str) -> dict[tuple[str, str], float]:
        return {(v.device, v.metric): v.value for v in page.read() if v.metric in metrics}

    # Triton counts a request just after it has answered it; the next test counts on from here.
    until(lambda: sum(counted("inference.request_success").values()) >= 12, "all twelve have succeeded")
    until(lambda: sum(counted("cache.hits", "cache.misses").values()) >= 12, "all twelve are hits or misses")
    assert counted("cache.hits", "cache.misses") == {
        ("tiny/1", "cache.hits"): 5,
        ("tiny/1", "cache.misses"): 1,
        ("tiny/2", "cache.hits"): 0,
        ("tiny/2", "cache.misses"): 6,
    }
    page.close()


@pytest.mark.triton
def test_a_version_that_goes_vanishes_from_the_page_and_begins_anew(server: EmbeddedServer) -> None:
    page = Page(server.metrics_url, timeout_s=60)
    with Control(server.grpc_url) as control:

        def read() -> dict[tuple[str, str], Value]:
            values = page.read()
            assert {value.source for value in values} == {"triton"}, "no engine and no exporter is there"
            return {(value.device, value.metric): value for value in values}

        first = read()
        for _ in range(3):
            control.probe("tiny", 2)
        answered = ("tiny/2", "inference.request_success")
        # Triton counts a request just after it has answered it.
        until(lambda: read()[answered].value - first[answered].value >= 3, "the three probes are counted")
        before = read()
        assert before[answered].value - first[answered].value == 3
        assert before["tiny/1", "inference.queue_duration"].unit == "s"
        assert before["server", "memory.total"].unit == "bytes"
        control.set_versions("tiny", [1])
        assert answered not in read()
        control.set_versions("tiny", [1, 2])
        assert read()[answered].value < before[answered].value
    page.close()
