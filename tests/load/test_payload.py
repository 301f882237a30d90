"""What is sent, read back by the other side's own library."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

from harness.errors import UsageError
from harness.load.payload import (
    can_compare,
    can_score,
    encode_grpc,
    encode_http,
    generation,
    http_message,
    scoring,
    with_id,
)
from harness.tensors import DTYPES, decode, encode
from harness.types import Arm, ModelInfo, TensorSpec
from tests.load.conftest import SMOLLM2, TINY, make_spec

KINDS = [*DTYPES, "BF16", "BYTES"]


def inputs_of(message: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    request = service_pb2.ModelInferRequest.FromString(message)
    return {
        meta.name: (meta.datatype, list(meta.shape), raw)
        for meta, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }


def test_a_generation_request_as_triton_reads_it(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, model=SMOLLM2, prompts=("a", "Grüße"), logprobs_k=20, max_tokens=5)
    message = with_id(encode_grpc(SMOLLM2, spec.arms["candidate"], generation(spec, "candidate", 1)), "12-c")

    request = service_pb2.ModelInferRequest.FromString(message)
    assert (request.model_name, request.model_version, request.id) == ("smollm2", "2", "12-c")
    assert request.parameters["triton_enable_empty_final_response"].bool_param is True
    inputs = inputs_of(message)
    assert inputs["text_input"] == ("BYTES", [1], serialize_byte_tensor(np.array(["Grüße"], object)).item())
    assert inputs["max_tokens"] == ("INT32", [1], b"\x05\0\0\0")
    assert inputs["stream"] == ("BOOL", [1], b"\x01")
    assert inputs["logprobs"] == ("INT32", [1], b"\x14\0\0\0")
    assert "forced_ids" not in inputs


def test_a_scoring_request_forces_the_tokens_and_does_not_stream(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, model=SMOLLM2, prompts=("a",), logprobs_k=20)
    inputs = inputs_of(encode_grpc(SMOLLM2, spec.arms["baseline"], scoring(spec, "baseline", 0, [3, 4, 5])))
    assert inputs["forced_ids"] == ("INT32", [3], np.array([3, 4, 5], "<i4").tobytes())
    assert inputs["stream"] == ("BOOL", [1], b"\0")


def test_no_comparison_no_logprobs(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, model=SMOLLM2, prompts=("a",))
    assert [t.name for t in generation(spec, "baseline", 0)] == ["text_input", "max_tokens", "stream"]


def test_a_batched_model_gets_a_batch_of_one(tmp_path: Path) -> None:
    model = replace(SMOLLM2, max_batch_size=8, decoupled=False)
    spec = make_spec(tmp_path, model=model, prompts=("a",))
    tensors = {t.name: t for t in generation(spec, "baseline", 0)}
    assert tensors["text_input"].shape == (1, 1)
    assert decode("BOOL", tensors["stream"].raw) == [False]


def test_arm_parameters_are_inputs_where_the_model_has_them_and_parameters_else(tmp_path: Path) -> None:
    extra = TensorSpec("temperature", "FP32", (1,))
    model = replace(SMOLLM2, inputs=(*SMOLLM2.inputs, extra))
    spec = make_spec(tmp_path, model=model, prompts=("a",))
    with pytest.raises(UsageError, match=r"needs the input temperature.*parameters"):
        generation(spec, "baseline", 0)

    arm = Arm("grpc://h:1", "smollm2", 1, parameters={"temperature": 0.5, "lora": "x", "n": 3, "f": 1.5, "b": True})
    spec = replace(spec, arms={"baseline": arm, "candidate": arm})
    message = encode_grpc(model, arm, generation(spec, "baseline", 0))

    assert inputs_of(message)["temperature"] == ("FP32", [1], np.float32(0.5).tobytes())
    parameters = service_pb2.ModelInferRequest.FromString(message).parameters
    assert parameters["lora"].string_param == "x"
    assert parameters["n"].int64_param == 3
    assert parameters["f"].double_param == 1.5
    assert parameters["b"].bool_param is True
    assert "temperature" not in parameters


def test_which_models_can_be_compared_and_scored() -> None:
    assert can_compare(SMOLLM2)
    assert can_score(SMOLLM2)
    assert not can_compare(TINY)
    without = replace(SMOLLM2, inputs=tuple(t for t in SMOLLM2.inputs if t.name != "forced_ids"))
    assert can_compare(without)
    assert not can_score(without)


def test_noise_is_the_same_for_both_arms_and_for_the_same_seed_only(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    first = generation(spec, "baseline", 3)
    assert first == generation(spec, "candidate", 3)
    assert first != generation(spec, "baseline", 4)
    assert first != generation(replace(spec, seed=8), "baseline", 3)


@pytest.mark.parametrize("datatype", KINDS)
def test_every_datatype_is_sent_with_as_many_values_as_its_shape_says(datatype: str, tmp_path: Path) -> None:
    model = ModelInfo("m", "p", (1,), (TensorSpec("X", datatype, (3, -1, 2)),), (), 4, False)
    (tensor,) = generation(make_spec(tmp_path, model=model), "baseline", 0)
    assert tensor.shape == (1, 3, 1, 2)
    assert len(decode(datatype, tensor.raw)) == 6


def test_an_unknown_datatype_is_named(tmp_path: Path) -> None:
    model = ModelInfo("m", "p", (1,), (TensorSpec("X", "FP4", (1,)),), (), 0, False)
    with pytest.raises(UsageError, match="FP4"):
        generation(make_spec(tmp_path, model=model), "baseline", 0)


def test_raw_bytes_are_those_of_tritonclient() -> None:
    words = [b"", b"a", "ä".encode()]
    assert encode("BYTES", words) == serialize_byte_tensor(np.array(words, object)).item()
    assert decode("BYTES", encode("BYTES", words)) == words
    assert encode("BF16", [1.0, -2.5]) == b"\x80\x3f\x20\xc0"
    assert decode("BF16", encode("BF16", [1.0, -2.5])) == [1.0, -2.5]
    with pytest.raises(ValueError, match="too early"):
        decode("BYTES", encode("BYTES", words)[:-1])


def test_an_http_message_is_whole(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, url="http://h:8000/base")
    arm = replace(spec.arms["candidate"], headers={"x-experiment": "B"})
    tensors = generation(spec, "candidate", 0)

    message = http_message(arm, encode_http(TINY, arm, tensors), "5-c")

    head, _, body = message.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert lines[0] == "POST /base/v2/models/tiny/versions/2/infer HTTP/1.1"
    assert headers["Host"] == "h:8000"
    assert headers["x-experiment"] == "B"
    assert int(headers["Content-Length"]) == len(body)
    size = int(headers["Inference-Header-Content-Length"])
    document = json.loads(body[:size])
    assert document["id"] == "5-c"
    assert document["parameters"]["binary_data_output"] is True
    assert document["inputs"][0]["shape"] == [16]
    assert body[size:] == tensors[0].raw


def test_a_header_cannot_smuggle_another(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, url="http://h:8000")
    arm = replace(spec.arms["baseline"], headers={"a": "b\r\nc: d"})
    with pytest.raises(UsageError, match="line break"):
        http_message(arm, encode_http(TINY, arm, generation(spec, "baseline", 0)), "1-b")
