"""`llama` and `llama_batched` on a real Triton, on its CPU, with the tiny shape."""

from __future__ import annotations

import json
import resource
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("torch")

from harness.embedded import EmbeddedServer, build_repository, gpu
from harness.failures import kind_of
from tests.embedded.conftest import Asker

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(gpu.gpu_available() is None, reason="here they run on the GPU"),
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("llama")
    build_repository(
        folder / "models",
        {
            "llama": {1: "fp16", 2: {"weights": "fp8", "kv": "fp8"}, 3: {"slots": 2, "context": 64}},
            "llama_batched": {1: "fp16"},
        },
    )
    with EmbeddedServer(folder / "models", folder / "triton.log") as server:
        yield server.start({"llama": [1, 2, 3], "llama_batched": [1]})


@pytest.fixture
def client(llama: EmbeddedServer) -> Iterator[Asker]:
    asker = Asker(llama.grpc_url, "llama")
    yield asker
    asker.close()


def batch(server: EmbeddedServer, texts: list[str], limit: int) -> tuple[int, dict[str, Any]]:
    """HTTP status, and each output's rows or the error."""
    inputs = [
        {"name": "text_input", "shape": [len(texts), 1], "datatype": "BYTES", "data": texts},
        {"name": "max_tokens", "shape": [len(texts), 1], "datatype": "INT32", "data": [limit] * len(texts)},
    ]
    url = f"{server.http_url}/v2/models/llama_batched/infer"
    request = urllib.request.Request(url, json.dumps({"inputs": inputs}).encode())
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, {each["name"]: each["data"] for each in json.load(answer)["outputs"]}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_it_streams_a_token_a_response(client: Asker) -> None:
    answer = client.ask(1, "one two three", max_tokens=5, logprobs=4)
    assert answer.reasons == ["", "", "", "", "length"]
    assert all(text.startswith(" w") for text in answer.texts)
    assert answer.input_tokens == 3
    assert np.shape(answer.topk_logprobs) == (5, 4)
    assert [row[0] for row in answer.topk_ids] == answer.token_ids


def test_a_whole_answer_is_one_response(client: Asker) -> None:
    streamed = client.ask(1, "one two three", max_tokens=5, logprobs=2)
    whole = client.ask(1, "one two three", max_tokens=5, logprobs=2, stream=False)
    assert len(whole.texts) == 1
    assert (whole.text, whole.token_ids, whole.topk_ids) == (streamed.text, streamed.token_ids, streamed.topk_ids)
    assert whole.reasons == ["length"]


def test_scored_tokens_come_at_once(client: Asker) -> None:
    made = client.ask(2, "one two three", max_tokens=6, logprobs=5)
    scored = client.ask(2, "one two three", forced_ids=made.token_ids, logprobs=5)
    assert scored.reasons == ["forced"]
    assert scored.token_ids == made.token_ids
    np.testing.assert_allclose(scored.topk_logprobs, made.topk_logprobs, atol=0.02)


def test_the_builds_are_different_models_of_the_same_weights(client: Asker) -> None:
    one, two = (client.ask(version, "a b c d", max_tokens=1, logprobs=500) for version in (1, 2))
    other = dict(zip(two.topk_ids[0], two.topk_logprobs[0], strict=True))
    both = zip(one.topk_ids[0], one.topk_logprobs[0], strict=True)
    apart = [abs(other[token] - value) for token, value in both if token in other]
    assert 0 < max(apart) < 1.5
    assert np.mean(apart) < 0.2


def test_many_at_a_time_are_batched_in_the_model(llama: EmbeddedServer) -> None:
    """Version 3 has one instance and two slots: five streams run through it together, and end as each alone would."""
    askers = [Asker(llama.grpc_url, "llama") for _ in range(5)]
    texts = [f"stream number {number}" for number in range(5)]
    alone = [asker.ask(3, text, max_tokens=40).token_ids for asker, text in zip(askers, texts, strict=True)]
    for asker, text in zip(askers, texts, strict=True):
        asker.send(3, text, max_tokens=40)
    together = [asker.rest().token_ids for asker in askers]
    for asker in askers:
        asker.close()
    assert together == alone
    assert [len(tokens) for tokens in together] == [40] * 5


@pytest.mark.parametrize(
    ("text", "inputs", "says"),
    [
        ("  ", {}, "text_input is empty"),
        ("a", {"max_tokens": 64}, "1 prompt tokens and 64 more exceed the context of 64 tokens"),
        ("a", {"logprobs": -1}, "logprobs must be from 0 to 1000, not -1"),
        ("a", {"forced_ids": [600]}, "forced_ids holds 600: ids are from 0 to 511"),
        ("a", {"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
    ],
)
def test_what_is_wrong_with_a_request_comes_back(client: Asker, text: str, inputs: dict[str, Any], says: str) -> None:
    assert says in client.ask(3, text, **inputs).error
    assert len(client.ask(3, "and it serves on", max_tokens=3).token_ids) == 3


def test_a_stream_that_is_cancelled_leaves_its_slot(llama: EmbeddedServer) -> None:
    gone = [Asker(llama.grpc_url, "llama") for _ in range(4)]
    for asker in gone:
        asker.send(3, "nobody reads this", max_tokens=60)
        asker.close()  # closes the stream, and with it the request
    asker = Asker(llama.grpc_url, "llama")
    assert len(asker.ask(3, "still here", max_tokens=20).token_ids) == 20
    asker.close()


def test_a_batch_is_answered_row_by_row(llama: EmbeddedServer) -> None:
    texts = ["one", "two words", "and three words"]
    status, found = batch(llama, texts, 4)
    assert status == 200
    assert found["input_tokens"] == [1, 2, 3]
    assert found["output_tokens"] == [4, 4, 4]
    for row, text in enumerate(texts):
        assert batch(llama, [text], 4)[1]["text_output"] == [found["text_output"][row]]


def test_a_batch_that_is_wrong_fails_with_a_reason(llama: EmbeddedServer) -> None:
    status, found = batch(llama, ["fine", " "], 4)
    assert (status, "text_input is empty" in found["error"]) == (500, True)
    status, found = batch(llama, ["word " * 510], 4)
    assert "510 prompt tokens and 4 more exceed the context of 512 tokens" in found["error"]


def test_a_batch_without_memory_fails_and_the_next_one_is_served(llama: EmbeddedServer) -> None:
    """The kernel refuses what PyTorch's CPU allocator asks for; a GPU's would say it in its own words."""
    folder = f"{llama.repository}/llama_batched/1/"
    (stub,) = (
        process
        for process in psutil.Process(llama.pid).children(recursive=True)
        if any(word.startswith(folder) for word in process.cmdline())
    )
    assert batch(llama, ["warm"], 2)[0] == 200
    held = next(
        int(line.split()[1]) << 10
        for line in Path(f"/proc/{stub.pid}/status").read_text().splitlines()
        if line.startswith("VmData:")
    )
    unlimited = resource.prlimit(stub.pid, resource.RLIMIT_DATA)
    resource.prlimit(stub.pid, resource.RLIMIT_DATA, (held + (2 << 20), unlimited[1]))
    try:
        status, found = batch(llama, ["word " * 500] * 64, 8)
        assert status == 500
        assert kind_of(found["error"], "500") == "out of memory", found
    finally:
        resource.prlimit(stub.pid, resource.RLIMIT_DATA, unlimited)
    assert batch(llama, ["word " * 100] * 8, 4)[0] == 200
