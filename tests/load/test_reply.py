"""Answers as Triton writes them, read."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from harness.load.outcome import Failure
from harness.load.reply import Exchange, Reader
from harness.tensors import encode
from tests.load.conftest import SMOLLM2, TINY


def response(version: str = "1", **outputs: tuple[str, list[int], list[Any]]) -> Any:
    message = service_pb2.ModelInferResponse(model_name="m", model_version=version)
    for name, (datatype, shape, values) in outputs.items():
        message.outputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_output_contents.append(encode(datatype, values))
    return message


def frame(message: Any = None, error: str = "") -> bytes:
    stream = service_pb2.ModelStreamInferResponse(error_message=error)
    if message is not None:
        stream.infer_response.CopyFrom(message)
    return bytes(stream.SerializeToString())


def piece(text: bytes, token: int | None, reason: str = "") -> bytes:
    ids = [] if token is None else [token]
    return frame(
        response(
            "2",
            text_output=("BYTES", [1], [text]),
            token_ids=("INT32", [len(ids)], ids),
            topk_ids=("INT32", [len(ids), 2], [token, 9] if ids else []),
            topk_logprobs=("FP32", [len(ids), 2], [-0.5, -1.5] if ids else []),
            finish_reason=("BYTES", [1], [reason]),
            input_tokens=("INT32", [1], [37]),
        )
    )


def final() -> bytes:
    message = response("2")
    message.parameters["triton_final_response"].bool_param = True
    return frame(message)


def stream(*frames: bytes, failure: Failure | None = None) -> Exchange:
    stamped = [(100 + n, raw) for n, raw in enumerate(frames)]
    return Exchange(50, 100 + len(frames), stamped, failure)


def test_a_stream_of_tokens() -> None:
    reader = Reader(SMOLLM2, "grpc-stream", digests=True)
    # "ü" arrives in two halves, and the first message holds no token yet.
    reply = reader.read(stream(piece(b"", None), piece(b"\xc3", 5), piece(b"\xbc!", 6, "length"), final()))

    assert reply.failure is None
    assert (reply.text, reply.token_ids, reply.osl, reply.isl) == ("ü!", [5, 6], 2, 37)
    assert (reply.first_ns, reply.chunks_ns) == (101, [101, 102])
    assert (reply.finish_reason, reply.version, reply.digest) == ("length", "2", "")
    assert (reply.k, reply.topk_ids) == (2, [5, 9, 6, 9])
    assert reply.topk_logprobs == [-0.5, -1.5, -0.5, -1.5]


def test_an_error_inside_a_stream_is_a_failed_request_that_keeps_what_came_before() -> None:
    reply = Reader(SMOLLM2, "grpc-stream", digests=False).read(
        stream(piece(b"a", 5), frame(response("2"), "CUDA out of memory"), final())
    )
    assert reply.failure is not None
    assert (reply.failure.status, reply.failure.code) == ("oom", "STREAM")
    assert (reply.osl, reply.first_ns, reply.version) == (1, 100, "2")


def test_an_answer_without_a_token_is_an_error_though_the_server_calls_it_a_success() -> None:
    reply = Reader(SMOLLM2, "grpc-stream", digests=False).read(stream(final()))
    assert reply.failure is not None
    assert (reply.failure.status, reply.failure.error, reply.osl) == ("error", "empty", 0)


def test_a_failure_of_the_wire_stays_what_it_was() -> None:
    failure = Failure("timeout", "deadline", "DEADLINE_EXCEEDED")
    reply = Reader(SMOLLM2, "grpc-stream", digests=False).read(stream(piece(b"a", 5), failure=failure))
    assert reply.failure is failure
    assert reply.osl == 1


def test_a_model_that_gives_text_only_has_an_unknown_osl() -> None:
    from dataclasses import replace

    model = replace(SMOLLM2, outputs=SMOLLM2.outputs[:1])
    message = frame(response(text_output=("BYTES", [1], [b"Hello"])))
    reply = Reader(model, "grpc-stream", digests=False).read(stream(message))
    assert (reply.failure, reply.text, reply.osl) == (None, "Hello", -1)


def test_a_tensor_answer_has_a_digest_that_is_the_same_over_both_wires() -> None:
    values = list(range(16))
    message = response(OUTPUT=("FP32", [16], values)).SerializeToString()
    raw = np.arange(16, dtype="<f4").tobytes()
    head = json.dumps(
        {
            "model_name": "tiny",
            "model_version": "1",
            "outputs": [{"name": "OUTPUT", "datatype": "FP32", "shape": [16], "parameters": {"binary_data_size": 64}}],
        }
    ).encode()

    over_grpc = Reader(TINY, "grpc", digests=True).read(Exchange(1, 3, [(3, message)]))
    over_http = Reader(TINY, "http", digests=True).read(Exchange(1, 3, [(3, head + raw)], json_size=len(head)))

    assert over_grpc.digest == hashlib.sha256(b"OUTPUT FP32 [16] 64\n" + raw).hexdigest()
    assert over_http == over_grpc
    assert (over_grpc.first_ns, over_grpc.osl, over_grpc.version) == (3, -1, "1")
    assert Reader(TINY, "grpc", digests=False).read(Exchange(1, 3, [(3, message)])).digest == ""


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[]", b'{"outputs": [{"name": "X"}]}', b'{"outputs": null}', b"\xff\xfe"]
)
def test_an_http_answer_that_cannot_be_read_is_a_failed_request(body: bytes) -> None:
    reply = Reader(TINY, "http", digests=True).read(Exchange(1, 3, [(3, body)], json_size=len(body)))
    assert reply.failure is not None
    assert (reply.failure.status, reply.failure.error) == ("error", "undecodable")


def test_grpc_bytes_that_cannot_be_read_are_a_failed_request() -> None:
    message = response(OUTPUT=("FP32", [16], list(range(16)))).SerializeToString()
    for raw in (
        message[:-5],
        b"\xff\xff",
        response(text_output=("BYTES", [1], [b"abc"])).SerializeToString()[:-2],
    ):
        reply = Reader(TINY, "grpc", digests=True).read(Exchange(1, 3, [(3, raw)]))
        assert reply.failure is not None
        assert reply.failure.error == "undecodable"
