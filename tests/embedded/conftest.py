"""One Triton for most tests; processes and shared memory are counted before anybody calls it clean."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.embedded.runtime import weights_available

QUESTION = "What is the capital of France?"


@dataclass
class Answer:
    """What one token request answered, its responses in order."""

    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    topk_ids: list[list[int]] = field(default_factory=list)
    topk_logprobs: list[list[float]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    input_tokens: int = -1
    error: str = ""
    times: list[float] = field(default_factory=list)  # seconds after sending

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def tpot(self) -> float:
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)


class Asker:
    """A gRPC streaming client of a token model: ask(), and the answer is complete."""

    def __init__(self, grpc_url: str, model: str = "smollm2") -> None:
        import tritonclient.grpc as grpc

        self._grpc, self._model = grpc, model
        self._events: queue.Queue[tuple[float, Any, Any]] = queue.Queue()
        self._client = grpc.InferenceServerClient(grpc_url.removeprefix("grpc://"))
        self._client.start_stream(self._arrived)

    def _arrived(self, result: Any, error: Any) -> None:
        self._events.put((time.perf_counter(), result, error))

    def close(self) -> None:
        self._client.stop_stream()
        self._client.close()

    def ask(self, version: int, text: str = QUESTION, **inputs: Any) -> Answer:
        self.send(version, text, **inputs)
        return self.rest()

    def send(self, version: int, text: str, **inputs: Any) -> None:
        self._sent = time.perf_counter()
        self._client.async_stream_infer(
            self._model, self._tensors(text, inputs), str(version), enable_empty_final_response=True
        )

    def rest(self) -> Answer:
        answer = Answer()
        while True:
            at, result, error = self._events.get(timeout=120)
            if error is not None:
                answer.error = str(error)
                return answer
            response = result.get_response()
            if len(response.outputs):
                answer.times.append(at - self._sent)
                self._add(answer, result)
            if response.parameters["triton_final_response"].bool_param:
                return answer

    def _add(self, answer: Answer, result: Any) -> None:
        answer.texts.append(result.as_numpy("text_output")[0].decode())
        answer.token_ids += result.as_numpy("token_ids").tolist()
        if result.as_numpy("topk_ids") is not None:
            answer.topk_ids += result.as_numpy("topk_ids").tolist()
            answer.topk_logprobs += result.as_numpy("topk_logprobs").tolist()
        answer.reasons.append(result.as_numpy("finish_reason")[0].decode())
        answer.input_tokens = int(result.as_numpy("input_tokens")[0])

    def _tensors(self, text: str, inputs: dict[str, Any]) -> list[Any]:
        arrays = {"text_input": np.array([text.encode()], np.object_)}
        for name, value in inputs.items():
            arrays[name] = np.atleast_1d(np.array(value, np.bool_ if name == "stream" else np.int32))
        tensors = []
        for name, array in arrays.items():
            datatype = {"O": "BYTES", "b": "BOOL", "i": "INT32"}[array.dtype.kind]
            tensor = self._grpc.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        return tensors


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_repository(
        folder,
        {
            "smollm2": {1: "fp16", 2: "slow", 3: "erring"},
            "tiny": {1: "fp16", 2: "slow", 3: {"load_fails": True}, 4: {}, 5: {"delay_ms": 0}},
        },
    )
    return folder


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    load: dict[str, list[int]] = {"tiny": [1, 2, 4, 5]}
    if weights_available() is None:
        load["smollm2"] = [1, 2, 3]
    with EmbeddedServer(repository, tmp_path_factory.mktemp("log") / "triton.log") as running:
        yield running.start(load)


@pytest.fixture
def asker(server: EmbeddedServer) -> Iterator[Asker]:
    asker = Asker(server.grpc_url)
    yield asker
    asker.close()
