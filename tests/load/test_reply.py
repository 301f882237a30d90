"""Answers of the KServe wires as Triton writes them, read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from harness.load.engine.exchange import Exchange
from harness.load.outcome import Failure
from harness.load.reply import Reader, Reply
from harness.tensors import encode
from harness.types import ModelInfo, TensorSpec, Wire
from tests.load.carrying import exchange
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
    return exchange(*((100 + n, raw) for n, raw in enumerate(frames)), failure=failure)


def read(model: ModelInfo, wire: Wire, answered: Exchange, *, digests: bool = False, tokens: bool = False) -> Reply:
    return Reader(model, wire, digests=digests, tokens=tokens).read(answered)


# "ü" arrives in two halves, and the first message holds no token yet.
UMLAUT = stream(piece(b"", None), piece(b"\xc3", 5), piece(b"\xbc!", 6, "length"), final())


def test_a_stream_of_tokens() -> None:
    reply = read(SMOLLM2, "grpc-stream", UMLAUT, digests=True, tokens=True)
    assert reply.failure is None
    assert (reply.text, reply.token_ids, reply.osl, reply.isl) == ("ü!", [5, 6], 2, 37)
    assert (reply.first_ns, reply.chunks_ns) == (101, [101, 102])
    assert (reply.finish_reason, reply.version, reply.digest) == ("length", "2", "")
    assert (reply.k, reply.topk_ids) == (2, [5, 9, 6, 9])
    assert reply.topk_logprobs == [-0.5, -1.5, -0.5, -1.5]


def test_who_keeps_no_tokens_knows_their_number_and_times_all_the_same() -> None:
    kept, counted = (read(SMOLLM2, "grpc-stream", UMLAUT, tokens=tokens) for tokens in (True, False))
    assert (counted.text, counted.token_ids, counted.topk_ids, counted.topk_logprobs) == ("", [], [], [])
    kept.text, kept.token_ids, kept.topk_ids, kept.topk_logprobs, kept.k = "", [], [], [], 0
    assert counted == kept


def test_a_unary_answer_of_a_token_model() -> None:
    message = response(
        "3", text_output=("BYTES", [1, 2], [b"a", b"b"]), token_ids=("INT32", [3], [1, 2, 3])
    ).SerializeToString()
    reply = read(SMOLLM2, "grpc", stream(message), tokens=True)
    assert (reply.text, reply.osl, reply.first_ns, reply.chunks_ns) == ("ab", 3, 100, [])


def test_vllm_counts_its_tokens_itself() -> None:
    model = replace(SMOLLM2, outputs=(TensorSpec("text_output", "BYTES", (-1,)),))

    def chunk(text: bytes, reason: str, tokens: int) -> bytes:
        return frame(
            response(
                text_output=("BYTES", [1], [text]),
                finish_reason=("BYTES", [1], [reason]),
                num_input_tokens=("UINT32", [1], [9]),
                num_output_tokens=("UINT32", [1], [tokens]),
            )
        )

    # It holds half a character back, and then gives two tokens at once.
    reply = read(
        model, "grpc-stream", stream(chunk(b"", "None", 1), chunk(b"\xc3\xbc", "None", 2), chunk(b"", "stop", 1))
    )
    assert (reply.isl, reply.osl, reply.finish_reason) == (9, 4, "stop")
    assert (reply.first_ns, reply.chunks_ns) == (101, [101])


def test_an_error_inside_a_stream_is_a_failed_request_that_keeps_what_came_before() -> None:
    reply = read(SMOLLM2, "grpc-stream", stream(piece(b"a", 5), frame(response("2"), "CUDA out of memory"), final()))
    assert reply.failure is not None
    assert (reply.failure.status, reply.failure.code) == ("oom", "STREAM")
    assert (reply.osl, reply.first_ns, reply.version) == (1, 100, "2")


def test_an_answer_without_a_token_is_an_error_though_the_server_calls_it_a_success() -> None:
    reply = read(SMOLLM2, "grpc-stream", stream(piece(b"", None), final()))
    assert reply.failure is not None
    assert (reply.failure.status, reply.failure.error, reply.osl) == ("error", "empty", 0)


def test_a_failure_of_the_wire_stays_what_it_was() -> None:
    failure = Failure("timeout", "deadline", "DEADLINE_EXCEEDED")
    reply = read(SMOLLM2, "grpc-stream", stream(piece(b"a", 5), failure=failure))
    assert reply.failure is failure
    assert reply.osl == 1
    assert read(TINY, "grpc", stream(failure=failure)).failure is failure


def test_a_model_that_gives_text_only_has_an_unknown_osl() -> None:
    model = replace(SMOLLM2, outputs=SMOLLM2.outputs[:1])
    reply = read(model, "grpc-stream", stream(frame(response(text_output=("BYTES", [1], [b"Hello"])))), tokens=True)
    assert (reply.failure, reply.text, reply.osl) == (None, "Hello", -1)


def test_a_decoupled_model_without_tokens_has_chunks() -> None:
    message = frame(response("4", OUTPUT=("FP32", [1], [1.0])))
    reply = read(replace(TINY, decoupled=True), "grpc-stream", stream(message, message, final()))
    assert (reply.failure, reply.version, reply.first_ns, reply.chunks_ns) == (None, "2", 100, [100, 101])


RAW = np.arange(16, dtype="<f4").tobytes()
MESSAGE = response("7", OUTPUT=("FP32", [16], list(range(16)))).SerializeToString()


def over_http(output: dict[str, Any], raw: bytes = b"", **more: Any) -> Exchange:
    meta = {"name": "OUTPUT", "datatype": "FP32", "shape": [16], **output}
    document = {"model_name": "tiny", "model_version": "7", **more, "outputs": [meta]}
    head = json.dumps(document, separators=(",", ":")).encode()
    return exchange((3, head + raw), status=200, json_size=len(head))


BINARY = over_http({"parameters": {"binary_data_size": 64}}, RAW)


def test_a_tensor_answer_has_a_digest_that_is_the_same_over_both_wires() -> None:
    reply = read(TINY, "grpc", exchange((3, MESSAGE)), digests=True)
    assert reply.digest == hashlib.sha256(b"OUTPUT FP32 [16] 64\n" + RAW).hexdigest()
    assert (reply.first_ns, reply.osl, reply.version, reply.chunks_ns) == (3, -1, "7", [])
    for answered in (
        BINARY,
        over_http({"data": list(range(16))}),
        over_http({"data": [list(range(8)), list(range(8, 16))]}),
    ):
        assert read(TINY, "http", answered, digests=True) == reply
    other = over_http({"data": [*range(15), 16]})
    assert read(TINY, "http", other, digests=True).digest not in ("", reply.digest)


def test_without_a_digest_the_version_is_found_and_nothing_else_is_read() -> None:
    for wire, answered in (("http", BINARY), ("grpc", exchange((3, MESSAGE)))):
        assert read(TINY, wire, answered) == Reply(None, 3, "7")
        # Not even looked at: that is what makes it cheap.
        t_ns, raw = answered.frames[0]
        assert read(TINY, wire, exchange((t_ns, raw[:-5]), status=answered.status, json_size=answered.json_size)) == (
            Reply(None, 3, "7")
        )


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_an_answer_of_an_uncommon_form_is_read_in_full(wire: Wire) -> None:
    if wire == "http":
        spaced = json.dumps(
            {"model_version": "7", "outputs": [{"name": "O", "datatype": "FP32", "shape": [1], "data": [1]}]}
        )
        answered = exchange((3, spaced.encode()), status=200)
    else:
        # A name of 200 bytes: its length takes two.
        message = service_pb2.ModelInferResponse(model_name="m" * 200, model_version="7")
        message.outputs.add(name="O", datatype="FP32", shape=[1])
        message.raw_output_contents.append(b"\0\0\0\0")
        answered = exchange((3, message.SerializeToString()))
    assert read(TINY, wire, answered) == Reply(None, 3, "7")


def test_a_body_in_pieces_is_one_answer() -> None:
    ((_, body),) = BINARY.frames
    pieces = exchange((1, body[:50]), (2, body[50:190]), (3, body[190:]), status=200, json_size=BINARY.json_size)
    for digests in (False, True):
        assert read(TINY, "http", pieces, digests=digests) == read(TINY, "http", BINARY, digests=digests)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, b'{"error":"CUDA out of memory"}', ("oom", "out of memory", "500")),
        (503, b"", ("refused", "unavailable", "503")),
        (504, b"<html>", ("timeout", "server timeout", "504")),
        (400, b'{"error":{"message":"no such model"}}', ("error", "http 400", "400")),
        (404, b"\xff\xfe", ("error", "http 404", "404")),
        (500, b"[" * 100_000, ("error", "http 500", "500")),
    ],
)
@pytest.mark.parametrize("wire", ["http", "generate", "generate-stream", "openai", "openai-stream"])
def test_an_answer_other_than_200_is_a_failure(
    wire: Wire, status: int, body: bytes, expected: tuple[str, str, str]
) -> None:
    reply = read(SMOLLM2, wire, exchange((3, body), status=status))
    failure = reply.failure
    assert failure is not None
    assert (failure.status, failure.error, failure.code) == expected
    assert failure.message in ("CUDA out of memory", "", "<html>", "no such model", "\ufffd\ufffd", "[" * 2000)


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[]", b"5", b'{"outputs": [{"name": "X"}]}', b'{"outputs": null}', b"\xff\xfe",
    b"[" * 100_000, b'{"outputs": [{"name": "X", "datatype": "FP4", "shape": [1], "data": [1]}]}',
    b'{"outputs": [{"name": "X", "datatype": "INT8", "shape": [1], "data": [1e999]}]}'],
)  # fmt: skip
@pytest.mark.parametrize("wire", ["http", "generate", "openai"])
@pytest.mark.parametrize("model", [TINY, SMOLLM2])
def test_an_http_answer_that_cannot_be_read_is_a_failed_request(model: ModelInfo, wire: Wire, body: bytes) -> None:
    reply = read(model, wire, exchange((3, body), status=200, json_size=len(body)), digests=True, tokens=True)
    if model is TINY and wire == "generate" and body.startswith(b'{"outputs"'):
        # An object that has none of the model's outputs: Triton says such things of models with optional outputs.
        assert (reply.failure, reply.first_ns) == (None, -1)
        return
    assert reply.failure is not None
    assert reply.failure.status == "error"
    assert reply.failure.error in ("undecodable", "empty")


def test_no_body_at_all_is_a_failed_request() -> None:
    for wire in ("http", "grpc", "generate", "generate-stream", "openai", "openai-stream"):
        for model in (TINY, SMOLLM2):
            reply = read(model, wire, exchange(status=200))
            assert (reply.failure is None) == (model is TINY and wire == "generate-stream"), (wire, model.name)


def test_a_unary_call_that_ends_well_without_a_message_is_no_answer() -> None:
    reply = read(TINY, "grpc", exchange())
    assert reply.failure is not None
    assert (reply.failure.status, reply.failure.error) == ("error", "undecodable")


def test_grpc_bytes_that_cannot_be_read_are_a_failed_request() -> None:
    for raw in (MESSAGE[:-5], b"\xff\xff", response(text_output=("BYTES", [1], [b"abc"])).SerializeToString()[:-2]):
        reply = read(TINY, "grpc", exchange((3, raw)), digests=True)
        assert reply.failure is not None
        assert reply.failure.error == "undecodable"


@pytest.mark.parametrize("raw", [b"", b"\x0a", b"\x0a\x05m", b"\x0a\x01m\x12", b"\x0a\x01m\x12\x05a", b"\x0a\xff\xff"])
def test_a_message_cut_short_anywhere_is_no_surprise(raw: bytes) -> None:
    reply = read(TINY, "grpc", exchange((3, raw)))
    assert (reply.failure is None) == (raw == b""), "no bytes are an empty message"


@pytest.mark.parametrize(("said", "kept"), [("\ud800", "?"), ("7" * 100_000, "7" * 64), ("ü" * 65, "ü" * 64)])
@pytest.mark.parametrize("digests", [True, False])
def test_a_version_that_no_file_has_room_for(said: str, kept: str, digests: bool) -> None:
    body = over_http({"parameters": {"binary_data_size": 64}}, RAW, model_version=said)
    reply = read(TINY, "http", body, digests=digests)
    assert reply.failure is None
    # As it stands in the bytes, where the whole of it is not read.
    assert reply.version == kept or (not digests and reply.version == json.dumps(said)[1:-1])
    reply.version.encode()
    if said.isascii():
        message = response(said, OUTPUT=("FP32", [16], list(range(16)))).SerializeToString()
        assert read(TINY, "grpc", exchange((3, message)), digests=digests).version == kept


@pytest.mark.parametrize("shape", [[1, 2**40], [1, -1], []])
def test_a_k_that_no_output_has_room_for_cannot_be_read(shape: list[int]) -> None:
    message = response(text_output=("BYTES", [1], [b"a"]), topk_ids=("INT32", shape, [5]))
    reply = read(SMOLLM2, "grpc", exchange((3, message.SerializeToString())), tokens=True)
    assert reply.failure is not None
    assert (reply.failure.error, reply.k) == ("undecodable", 0)


def test_counts_that_no_sample_has_room_for_are_unknown() -> None:
    usage = {"prompt_tokens": 2**40, "completion_tokens": -5, "prompt_tokens_details": {"cached_tokens": 2**31}}
    body = json.dumps({"choices": [{"message": {"content": "a"}}], "usage": usage}).encode()
    reply = read(SMOLLM2, "openai", exchange((3, body), status=200))
    assert (reply.failure, reply.isl, reply.osl, reply.cached_tokens) == (None, -1, -1, -1)
