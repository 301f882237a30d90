"""What servers count of their caches, as readings; Triton's own response cache on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.telemetry import TritonMetrics

PAGE = """# TYPE nv_cache_num_hits_per_model counter
nv_cache_num_hits_per_model{model="m",version="1"} 3
# TYPE nv_cache_num_misses_per_model counter
nv_cache_num_misses_per_model{model="m",version="1"} 4
# TYPE vllm:prefix_cache_queries counter
vllm:prefix_cache_queries_total{engine="0",model_name="org/llm"} 700.0
vllm:prefix_cache_queries_total{engine="1",model_name="org/llm"} 300.0
# TYPE vllm:prefix_cache_hits counter
vllm:prefix_cache_hits_total{engine="0",model_name="org/llm"} 250.0
vllm:prefix_cache_hits_total{engine="1",model_name="org/llm"} 0.0
# TYPE nv_trt_llm_kv_cache_block_metrics gauge
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="tensorrt_llm",version="1"} 12
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 6239
# TYPE trtllm_kv_cache_reused_blocks counter
trtllm_kv_cache_reused_blocks_total{model_name="org/llm"} 40.0
# TYPE trtllm_kv_cache_missed_blocks counter
trtllm_kv_cache_missed_blocks_total{model_name="org/llm"} 60.0
"""


def test_caches_of_engines_in_our_words() -> None:
    metrics = TritonMetrics("http://127.0.0.1:1/metrics")
    assert {(v.device, v.metric): v.value for v in metrics.parse(PAGE)} == {
        ("m/1", "cache.hits"): 3,
        ("m/1", "cache.misses"): 4,
        ("org/llm/", "prefix_cache.queries"): 1000,
        ("org/llm/", "prefix_cache.hits"): 250,
        ("tensorrt_llm/1", "kv_cache.blocks.used"): 12,
        ("tensorrt_llm/1", "kv_cache.blocks.max"): 6239,
        ("org/llm/", "kv_cache.reused_blocks"): 40,
        ("org/llm/", "kv_cache.missed_blocks"): 60,
    }
    metrics.close()


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
    metrics = TritonMetrics(server.metrics_url)

    def ask(version: int, number: float) -> None:
        body = {"inputs": [{"name": "INPUT", "shape": [16], "datatype": "FP32", "data": [number] * 16}]}
        httpx.post(f"{server.http_url}/v2/models/tiny/versions/{version}/infer", json=body).raise_for_status()

    for number in range(6):
        ask(1, 1.0)
        ask(2, float(number))
    counted = {(v.device, v.metric): v.value for v in metrics.read() if v.metric.startswith("cache.")}
    assert counted == {
        ("tiny/1", "cache.hits"): 5,
        ("tiny/1", "cache.misses"): 1,
        ("tiny/2", "cache.hits"): 0,
        ("tiny/2", "cache.misses"): 6,
    }
    metrics.close()
