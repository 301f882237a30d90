"""GrpcSender against the real Triton, beside tritonclient's answers to the same requests."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as client
from tritonclient.grpc import service_pb2

from harness.embedded import EmbeddedServer
from harness.load.engine.grpc import GrpcSender
from harness.tensors import Tensor, encode
from harness.types import Arm, ModelInfo, TensorSpec
from tests.load.engine.peer import Driver
from tests.load.engine.ticker import TICKER, write_ticker

pytestmark = pytest.mark.triton

TINY = ModelInfo(
    "tiny", "python", (1, 2), (TensorSpec("INPUT", "FP32", (16,)),), (TensorSpec("OUTPUT", "FP32", (16,)),), 0, False
)


@pytest.fixture(scope="module")
def ticker_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder: Path = tmp_path_factory.mktemp("ticker")
    write_ticker(folder / "models")
    with EmbeddedServer(folder / "models", folder / "server.log") as server:
        server.start({"ticker": [1]})
        yield server


def ticks(sender: GrpcSender, chunks: int, period_us: int) -> Any:
    values = {"COUNT": chunks, "PERIOD_US": period_us}
    return sender.prepare([Tensor(name, "INT32", (1,), encode("INT32", [value])) for name, value in values.items()])


def clocks(driver: Driver, frames: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """(arrival, the model's own clock) of each chunk, both from the run's start."""
    read = []
    for at, raw in frames:
        response = service_pb2.ModelStreamInferResponse.FromString(raw).infer_response
        if response.raw_output_contents:
            sent = int(np.frombuffer(response.raw_output_contents[0], np.int64)[0])
            read.append((at, sent - driver.loop._t0_ns))
    return read


def test_unary_answers_are_tritonclients(tiny_server: EmbeddedServer) -> None:
    values = np.arange(16, dtype=np.float32)
    given = client.InferInput("INPUT", [16], "FP32").set_data_from_numpy(values)
    with client.InferenceServerClient(tiny_server.grpc_url.removeprefix("grpc://")) as theirs:
        expected = theirs.infer("tiny", [given], model_version="2").get_response()
    with Driver(Arm(tiny_server.grpc_url, "tiny", 2), TINY) as driver:
        template = driver.sender.prepare([Tensor("INPUT", "FP32", (16,), values.tobytes())])
        sent = driver.run(*[template] * 200)
        for number, done in enumerate(sent, 1):
            assert done.failure is None
            [(at, raw)] = done.frames
            assert done.sent_ns < at == done.done_ns
            ours = service_pb2.ModelInferResponse.FromString(raw)
            assert ours.id == f"{number:016x}-b0"
            ours.id = expected.id
            assert ours == expected


def test_a_model_that_is_not_there(tiny_server: EmbeddedServer) -> None:
    with Driver(Arm(tiny_server.grpc_url, "tiny", 9), TINY) as driver:
        [done] = driver.run(driver.sender.prepare([Tensor("INPUT", "FP32", (16,), bytes(64))]))
        assert done.failure
        given = client.InferInput("INPUT", [16], "FP32").set_data_from_numpy(np.zeros(16, np.float32))
        with client.InferenceServerClient(tiny_server.grpc_url.removeprefix("grpc://")) as theirs:  # noqa: SIM117
            with pytest.raises(client.InferenceServerException) as raised:
                theirs.infer("tiny", [given], model_version="9")
        assert done.failure.message == raised.value.message()
        assert raised.value.status() == f"StatusCode.{done.failure.code}"


def test_streamed_answers_are_tritonclients(ticker_server: EmbeddedServer) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    inputs = [
        client.InferInput(name, [1], "INT32").set_data_from_numpy(np.array([value], np.int32))
        for name, value in (("COUNT", 3), ("PERIOD_US", 1000))
    ]
    with client.InferenceServerClient(ticker_server.grpc_url.removeprefix("grpc://")) as theirs:
        theirs.start_stream(lambda result, error: answers.put((result, error)))
        theirs.async_stream_infer("ticker", inputs, model_version="1", enable_empty_final_response=True)
        expected = [answers.get(timeout=20)[0].get_response() for _ in range(4)]
        theirs.stop_stream()
    with Driver(Arm(ticker_server.grpc_url, "ticker", 1), TICKER) as driver:
        [done] = driver.run(ticks(driver.sender, 3, 1000))
        assert done.failure is None
        ours = [service_pb2.ModelStreamInferResponse.FromString(raw).infer_response for _, raw in done.frames]
        for response in (*ours, *expected):
            response.id = ""
            if response.raw_output_contents:
                response.raw_output_contents[0] = b"clock"
        assert ours == expected


def test_chunks_are_stamped_when_they_come(ticker_server: EmbeddedServer) -> None:
    with Driver(Arm(ticker_server.grpc_url, "ticker", 1), TICKER) as driver:
        for done in driver.run(*[ticks(driver.sender, 20, 5000)] * 20):
            assert done.failure is None
            read = clocks(driver, done.frames)
            assert len(read) == 20
            assert all(sent < at for at, sent in read)
            assert [sent for _, sent in read] == sorted(sent for _, sent in read)
            assert done.sent_ns < read[0][1] < read[-1][0] <= done.done_ns


def test_an_error_within_a_stream_is_a_message_of_it(ticker_server: EmbeddedServer) -> None:
    with Driver(Arm(ticker_server.grpc_url, "ticker", 1), TICKER) as driver:
        [done] = driver.run(ticks(driver.sender, -1, 0))
        messages = [service_pb2.ModelStreamInferResponse.FromString(raw) for _, raw in done.frames]
        assert "ticker was told to fail" in messages[0].error_message


def test_a_server_survives_that_its_streams_are_cancelled(ticker_server: EmbeddedServer) -> None:
    """While it writes as fast as it can, and new ones begin: were they reset there and then, it would crash."""
    with Driver(Arm(ticker_server.grpc_url, "ticker", 1), TICKER) as driver:
        fast = ticks(driver.sender, 20, 0)
        for _ in range(100):
            sent = [driver.send(fast) for _ in range(8)]
            driver.until(lambda sent=sent: any(one.frames for one in sent))
            driver.sender.cancel()
            assert all(one in driver.done for one in sent)
        ended = {one.failure.status for one in driver.done if one.failure}
        assert ended == {"cancelled"}
        assert driver.run(ticks(driver.sender, 2, 0))[0].failure is None
        driver.until(lambda: not driver.sender.lingering)
    assert ticker_server.alive
