"""What quality is judged from beside the text: likelihoods, calls of tools, shapes, numbers that are none, vectors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.load.payload import encode, generation
from harness.load.reply import Reader, Reply
from harness.tensors import decode
from harness.types import Arm, ModelInfo, Prompt, TensorSpec, Wire
from tests.load.carrying import exchange
from tests.load.conftest import SMOLLM2, TINY, make_spec
from tests.load.test_payload import TENSORRT_LLM, VLLM
from tests.load.test_reply import final, frame, response, stream


def read(model: ModelInfo, wire: Wire, answered: Any, **options: Any) -> Reply:
    options = {"digests": True, "tokens": True, **options}
    return Reader(model, wire, **options).read(answered)


def events(*answers: Any, wire: Wire = "openai-stream", **options: Any) -> Reply:
    body = b"".join(b"data: " + json.dumps(answer).encode() + b"\n\n" for answer in answers) + b"data: [DONE]\n\n"
    return read(SMOLLM2, wire, exchange((1, body), status=200), **options)


def chunk(text: str, logprob: float, tokens: int) -> bytes:
    return frame(
        response(
            "1",
            text_output=("BYTES", [1], [text]),
            cumulative_logprob=("FP32", [1], [logprob]),
            num_output_tokens=("UINT32", [1], [tokens]),
        )
    )


# -------------------------------------------------------------- the likelihood of the own answer


def test_vllm_says_the_sum_so_far_with_each_chunk() -> None:
    reply = read(VLLM, "grpc-stream", stream(chunk("a", -0.5, 1), chunk("b", -1.25, 2), final()))
    assert (reply.logprob, reply.logprob_tokens) == (-1.25, 3)


def test_tensorrt_llm_says_it_under_another_name_and_as_text() -> None:
    def said(datatype: str, value: Any) -> Reply:
        name = "cum_log_probs" if datatype == "FP32" else "cumulative_logprob"
        pieces = {
            "text_output": ("BYTES", [1], ["x"]),
            name: (datatype, [1], [value]),
            "num_output_tokens": ("INT32", [1], [4]),
        }
        return read(TENSORRT_LLM, "grpc-stream", stream(frame(response("1", **pieces)), final()))  # type: ignore[arg-type]

    assert (said("FP32", -2.5).logprob, said("FP32", -2.5).logprob_tokens) == (-2.5, 4)
    assert said("BYTES", "-1.5").logprob == -1.5
    assert said("BYTES", "None").logprob is None


def test_nobody_says_it_where_nobody_counts_or_nothing_is_kept() -> None:
    uncounted = frame(response("1", text_output=("BYTES", [1], ["x"]), cumulative_logprob=("FP32", [1], [-1.0])))
    assert read(VLLM, "grpc-stream", stream(uncounted, final())).logprob_tokens == -1
    assert read(VLLM, "grpc-stream", stream(chunk("a", -0.5, 1), final()), tokens=False).logprob is None


def test_the_generate_api_says_it_too() -> None:
    answers = [{"text_output": "a", "cumulative_logprob": -0.5, "num_output_tokens": 1}] * 2
    body = b"".join(b"data: " + json.dumps(answer).encode() + b"\n\n" for answer in answers)
    reply = read(VLLM, "generate-stream", exchange((1, body), status=200))
    assert (reply.logprob, reply.logprob_tokens) == (-0.5, 2)


def test_openai_says_it_token_by_token() -> None:
    def piece(text: str, *values: float) -> dict[str, Any]:
        return {"choices": [{"delta": {"content": text}, "logprobs": {"content": [{"logprob": v} for v in values]}}]}

    reply = events(piece("a", -0.5), piece("bc", -0.25, -1.0), {"choices": [{"delta": {}, "finish_reason": "stop"}]})
    assert (reply.logprob, reply.logprob_tokens) == (-1.75, 3)
    completions = {
        "choices": [{"text": "ab", "logprobs": {"token_logprobs": [None, -0.5, -1.0]}, "finish_reason": "stop"}]
    }
    answer = read(SMOLLM2, "openai", exchange((1, json.dumps(completions).encode()), status=200))
    assert (answer.logprob, answer.logprob_tokens) == (-1.5, 2)
    assert events({"choices": [{"delta": {"content": "a"}, "logprobs": None}]}).logprob is None


def test_engines_are_asked_for_it_only_where_it_is_wanted(tmp_path: Path) -> None:
    inputs = (*VLLM.inputs, TensorSpec("return_cumulative_logprob", "BOOL", (1,), optional=True))
    model = ModelInfo("vllm", "vllm", (1,), inputs, VLLM.outputs, 0, True)

    def asked(model: ModelInfo, own_logprob: bool) -> dict[str, Any]:
        spec = make_spec(tmp_path, models={"baseline": model}, prompts=(Prompt("a"),), own_logprob=own_logprob)
        return {t.name: decode(t.datatype, t.raw) for t in generation(spec, "baseline", 0)}

    assert asked(model, True)["return_cumulative_logprob"] == [True]
    assert json.loads(asked(model, True)["sampling_parameters"][0])["logprobs"] == 1
    assert "logprobs" not in json.loads(asked(model, False)["sampling_parameters"][0])
    assert "return_cumulative_logprob" not in asked(model, False)
    assert asked(TENSORRT_LLM, True)["return_log_probs"] == [True]
    assert asked(SMOLLM2, True)["logprobs"] == [1]


@pytest.mark.parametrize(("endpoint", "wanted"), [("chat", True), ("completions", 1)])
def test_openai_is_asked_for_it(tmp_path: Path, endpoint: str, wanted: Any) -> None:
    arm = Arm("http://127.0.0.1:1", "echo", api="openai", parameters={"endpoint": endpoint})
    spec = make_spec(
        tmp_path, arms={"baseline": arm}, models={"baseline": SMOLLM2}, prompts=(Prompt("a"),), own_logprob=True
    )
    template = encode("openai", arm, SMOLLM2, generation(spec, "baseline", 0))
    body = json.loads(template.fill(b"0" * 19).partition(b"\r\n\r\n")[2])
    assert body["logprobs"] == wanted


# -------------------------------------------------------------- calls of tools


def call(index: int, name: str | None, arguments: str) -> dict[str, Any]:
    return {
        "choices": [{"delta": {"tool_calls": [{"index": index, "function": {"name": name, "arguments": arguments}}]}}]
    }


def test_calls_of_tools_are_put_together() -> None:
    reply = events(call(0, "weather", ""), call(0, None, '{"city":'), call(1, "clock", "{}"), call(0, None, '"Oslo"}'))
    assert json.loads(reply.tool_calls) == [
        {"name": "weather", "arguments": '{"city":"Oslo"}'},
        {"name": "clock", "arguments": "{}"},
    ]
    assert events(call(0, "weather", "{}"), tokens=False).tool_calls == ""
    assert events({"choices": [{"delta": {"content": "text"}}]}).tool_calls == ""


# -------------------------------------------------------------- tensors


def tensors(**outputs: tuple[str, list[int], list[Any]]) -> Any:
    return exchange((1, response("1", **outputs).SerializeToString()))


def test_a_short_vector_is_kept_where_it_is_wanted() -> None:
    answered = tensors(
        id=("INT64", [1], [7]), vector=("FP32", [1, 3], [0.5, -1.0, 2.0]), other=("FP32", [2], [1.0, 2.0])
    )
    reply = read(TINY, "grpc", answered, vectors=True)
    assert np.asarray(reply.vector).tolist() == [0.5, -1.0, 2.0]
    assert reply.shape == "id INT64 [1]; vector FP32 [1, 3]; other FP32 [2]"
    assert reply.bad == 0
    assert len(read(TINY, "grpc", answered).vector) == 0
    assert read(TINY, "grpc", answered, digests=False).shape == ""


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "BF16"])
def test_numbers_that_are_none_are_counted(datatype: str) -> None:
    answered = tensors(vector=(datatype, [4], [1.0, math.nan, math.inf, -math.inf]))
    assert read(TINY, "grpc", answered, vectors=True).bad == 3
    assert read(TINY, "grpc", tensors(vector=(datatype, [2], [1.0, 2.0]))).bad == 0


def test_long_and_single_numbers_are_no_vectors() -> None:
    lengths: dict[int, Callable[[int], int]] = {1: lambda n: 0, 2: lambda n: n, 8192: lambda n: n, 8193: lambda n: 0}
    for length, kept in lengths.items():
        answered = tensors(vector=("FP32", [length], [1.0] * length))
        assert len(read(TINY, "grpc", answered, vectors=True).vector) == kept(length)


def test_the_generate_api_has_vectors_as_lists() -> None:
    body = json.dumps({"model_name": "tiny", "model_version": "1", "OUTPUT": [0.5, 1.5]}).encode()
    reply = read(TINY, "generate", exchange((1, body), status=200), vectors=True)
    assert np.asarray(reply.vector).tolist() == [0.5, 1.5]
    assert reply.shape == "OUTPUT [2]"
