"""What a run says of engines before its load: to whom it listens, once, and where it keeps silent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any, cast

import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import Unreachable
from harness.run.engines import Engines
from harness.triton import Control
from harness.types import Arm
from tests.telemetry.serving import recorded, serving


class Server:
    """What `look` asks of a Triton: configurations by model, versions that are READY, steps of ensembles."""

    def __init__(self, configs: dict[str, dict[str, Any]], **steps: tuple[tuple[str, int], ...]) -> None:
        self.configs, self._steps = configs, steps
        self.asked: list[str] = []

    def loaded(self, model: str) -> tuple[int, ...]:
        if model not in self.configs:
            raise Unreachable(model)
        return (1, 2)

    def steps(self, model: str, version: int | None = None) -> tuple[tuple[str, int], ...]:
        return self._steps.get(model, ())

    def config(self, model: str, version: int | None = None) -> dict[str, Any]:
        self.asked.append(f"{model}/{version}")
        return self.configs[model]


def arms(server: Server, *models: str, version: int | None = None) -> list[tuple[Arm, Control | None]]:
    return [(Arm("grpc://host:8001", model, version), cast(Control, server)) for model in models]


ENGINES = Server({"vllm_model": {"backend": "vllm"}, "tensorrt_llm": {"backend": "tensorrtllm"}, "tiny": {}})


def test_each_engine_that_is_off_is_told_once() -> None:
    said: list[str] = []
    with serving({"metrics": recorded("triton-gpus")}) as url:
        engines = Engines([f"{url}/metrics"], said.append)
        for _ in range(2):
            engines.look(arms(ENGINES, "vllm_model", "tensorrt_llm", "tiny"))
    assert said == engines.notes
    assert [note.partition(",")[0] for note in said] == [
        "vllm_model/2 is served by vLLM",
        "tensorrt_llm/2 is served by TensorRT-LLM",
    ]


def test_the_version_that_an_arm_names_is_looked_for() -> None:
    said: list[str] = []
    with serving({"metrics": recorded("trtllm-triton")}) as url:
        engines = Engines([f"{url}/metrics"], said.append)
        engines.look(arms(ENGINES, "tensorrt_llm", version=1))
        assert said == []
        engines.look(arms(ENGINES, "tensorrt_llm", version=3))  # does not serve: of that others tell
        assert said == []
        engines.look(arms(ENGINES, "tensorrt_llm", version=2))
    assert len(said) == 1


def test_of_an_ensemble_its_steps_are_looked_at() -> None:
    server = Server({"chat": {}, "pre": {"backend": "python"}, "vllm_model": {"backend": "vllm"}},
                    chat=(("pre", 1), ("vllm_model", 7)))  # fmt: skip
    said: list[str] = []
    engines = Engines([], said.append)
    engines.look(arms(server, "chat"))
    assert server.asked == ["pre/1", "vllm_model/7"]
    assert said == ["vllm_model/7 is served by vLLM, and no page tells of its KV cache: give target.metrics_url"]


def test_silence_where_a_page_or_a_server_does_not_answer_or_nobody_can_be_asked() -> None:
    said: list[str] = []
    engines = Engines(["http://127.0.0.1:1/metrics"], said.append)
    engines.look(arms(ENGINES, "vllm_model"))
    engines.look(arms(ENGINES, "nosuch"))
    engines.look([(Arm("http://host:9000", "llm", None, api="openai"), None)])
    assert said == engines.notes == []


def test_two_pages_that_speak_of_one_version_are_told() -> None:
    said: list[str] = []
    with serving({"a": recorded("triton-gpus"), "b": recorded("triton-gpus"), "c": recorded("dcgm")}) as url:
        engines = Engines([f"{url}/a", f"{url}/c"], said.append)
        engines.look(arms(ENGINES, "tiny"))
        assert said == [], "two sources of one GPU are two series"
        engines = Engines([f"{url}/a", f"{url}/b"], said.append)
        engines.look(arms(ENGINES, "tiny"))
    assert len(said) == 1
    assert said[0].startswith(f"{url}/b speaks of ")
    assert f"llm/1 as {url}/a does, which is read" in said[0]


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("engines")
    models = folder / "models"
    build_repository(models, {"tiny": {1: {}}})
    # What Triton itself takes for TensorRT-LLM, and which shows no metrics.
    shutil.copytree(models / "tiny", models / "tensorrt_llm")
    config = models / "tensorrt_llm" / "config.pbtxt"
    parameter = 'parameters { key: "gpt_model_path" value: { string_value: "/engines/llm" } }'
    config.write_text(config.read_text().replace('"tiny"', '"tensorrt_llm"') + f"\n{parameter}\n")
    with EmbeddedServer(models, folder / "triton.log") as running:
        yield running.start({"tiny": [1], "tensorrt_llm": [1]})


@pytest.mark.triton
def test_of_a_real_triton_without_engines_nothing_is_said(triton: EmbeddedServer) -> None:
    said: list[str] = []
    with Control(triton.grpc_url) as control:
        for pages in ([triton.metrics_url], []):
            engines = Engines(pages, said.append)
            engines.look([(Arm(triton.grpc_url, "tiny", 1), control)])
    assert said == []


@pytest.mark.triton
@pytest.mark.parametrize("address", ["grpc_url", "http_url"])
def test_of_a_real_triton_with_an_engine_that_is_silent_it_is_told(triton: EmbeddedServer, address: str) -> None:
    said: list[str] = []
    url = getattr(triton, address)
    with Control(url) as control:
        Engines([triton.metrics_url], said.append).look([(Arm(url, "tensorrt_llm", None), control)])
    assert len(said) == 1
    assert said[0].startswith("tensorrt_llm/1 is served by TensorRT-LLM, whose metrics are off: ")
