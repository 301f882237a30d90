"""The bytes of requests on every wire, read back by the other side's own library."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as reference
from tritonclient.grpc import service_pb2

from harness.errors import UsageError
from harness.load.payload import encode, generation
from harness.load.spec import FRONT_END
from harness.load.template import KEY_SIZE, REQUEST_ID, request_id
from harness.tensors import DTYPES, Tensor, random_tensor
from harness.types import Arm, ModelInfo, Prompt, TensorSpec, Wire
from tests.load.carrying import filled
from tests.load.conftest import SMOLLM2, TINY, make_spec
from tests.load.test_payload import VLLM

ASKED = (Prompt('Say "ü"\n', 3),)


def sent(tmp_path: Path, wire: Wire, arm: Arm, model: ModelInfo, **changes: Any) -> bytes:
    prompts = ASKED if model.is_token_model else ()
    spec = make_spec(tmp_path, model=model, prompts=prompts, arms={"baseline": arm}, **changes)
    return filled(encode(wire, arm, model, generation(spec, "baseline", 0)))


def parted(message: bytes) -> tuple[str, dict[str, str], bytes]:
    """Request line, headers and body; the length said is the length there is."""
    head, _, body = message.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    assert len(headers) == len(fields), "no header twice"
    assert int(headers["Content-Length"]) == len(body)
    return line, headers, body


def test_a_grpc_message_as_triton_reads_it(tmp_path: Path) -> None:
    own = {"lora": "x", "n": 3, "f": 1.5, "b": True, "max_tokens": 7}
    arm = Arm("grpc://h:1", "smollm2", 2, parameters=own)
    request = service_pb2.ModelInferRequest.FromString(sent(tmp_path, "grpc-stream", arm, SMOLLM2))

    assert (request.model_name, request.model_version, request.id) == ("smollm2", "2", request_id(1, "baseline"))
    parameters = request.parameters
    assert parameters["triton_enable_empty_final_response"].bool_param is True
    assert (parameters["lora"].string_param, parameters["n"].int64_param) == ("x", 3)
    assert (parameters["f"].double_param, parameters["b"].bool_param) == (1.5, True)
    assert "max_tokens" not in parameters
    inputs = dict(zip((meta.name for meta in request.inputs), request.raw_input_contents, strict=True))
    assert inputs["max_tokens"] == b"\x07\0\0\0"
    assert inputs["text_input"] == b"\x09\0\0\0" + ASKED[0].text.encode()
    assert [list(meta.shape) for meta in request.inputs] == [[1], [1], [1]]


def test_no_version_is_no_version(tmp_path: Path) -> None:
    arm = Arm("grpc://h:1", "tiny")
    assert service_pb2.ModelInferRequest.FromString(sent(tmp_path, "grpc", arm, TINY)).model_version == ""
    line, _, _ = parted(sent(tmp_path, "http", replace(arm, url="http://h:1"), TINY))
    assert line == "POST /v2/models/tiny/infer HTTP/1.1"


def test_kserve_over_http_says_what_tritonclient_says(tmp_path: Path) -> None:
    specs = [TensorSpec(name, name, (2, 3)) for name in (*DTYPES, "BYTES")]
    model = ModelInfo("every/type", "p", (1,), tuple(specs), (), 0, False)
    arm = Arm("http://h:8000/base/", model.name, 2, headers={"x-experiment": "B"}, parameters={"priority": 3})
    rng = np.random.default_rng(1)
    tensors = [random_tensor(spec, 0, rng) for spec in specs]
    line, headers, body = parted(filled(encode("http", arm, model, tensors)))

    theirs = []
    for t in tensors:
        one = reference.InferInput(t.name, list(t.shape), t.datatype)
        one.set_data_from_numpy(_array(t))
        theirs.append(one)
    expected, size = reference.InferenceServerClient.generate_request_body(
        theirs, request_id=request_id(1, "baseline"), priority=3
    )
    mine = int(headers["Inference-Header-Content-Length"])
    assert body[mine:] == expected[size:]
    assert json.loads(body[:mine]) == json.loads(expected[:size])
    assert line == "POST /base/v2/models/every%2Ftype/versions/2/infer HTTP/1.1"
    assert (headers["Host"], headers["x-experiment"]) == ("h:8000", "B")


def _array(t: Tensor) -> Any:
    if t.datatype == "BYTES":
        from harness.tensors import decode

        return np.array(decode("BYTES", t.raw), object).reshape(t.shape)
    return np.frombuffer(t.raw, DTYPES[t.datatype]).reshape(t.shape)


def test_generate_has_each_input_under_its_name(tmp_path: Path) -> None:
    arm = Arm("http://h:1", "smollm2", 2, parameters={"lora": "x"}, api="generate")
    line, headers, body = parted(sent(tmp_path, "generate-stream", arm, SMOLLM2))
    assert line == "POST /v2/models/smollm2/versions/2/generate_stream HTTP/1.1"
    assert headers["X-Request-Id"] == request_id(1, "baseline")
    assert json.loads(body) == {
        "text_input": ASKED[0].text,
        "max_tokens": 3,
        "stream": True,
        "parameters": {"lora": "x"},
    }
    line, _, body = parted(sent(tmp_path, "generate", replace(arm, stream=False), SMOLLM2))
    assert line == "POST /v2/models/smollm2/versions/2/generate HTTP/1.1"
    assert json.loads(body)["stream"] is False


def test_generate_carries_lists(tmp_path: Path) -> None:
    arm = Arm("http://h:1", "tiny", 1, api="generate")
    _, _, body = parted(sent(tmp_path, "generate", arm, TINY, inputs=({"INPUT": list(range(16))},)))
    assert json.loads(body) == {"INPUT": [float(n) for n in range(16)]}


@pytest.mark.parametrize(
    ("datatype", "shape", "row", "message"),
    [
        ("BYTES", (1,), {"b64": "/9j/"}, "carries text only"),
        ("FP16", (1,), [1], "carries no FP16"),
        ("BF16", (1,), [1], "carries no BF16"),
        ("FP32", (2, 2), [1, 2, 3, 4], r"no shape \[2, 2\]"),
    ],
)
def test_generate_says_what_it_cannot_carry(
    datatype: str, shape: tuple[int, ...], row: Any, message: str, tmp_path: Path
) -> None:
    model = ModelInfo("m", "p", (1,), (TensorSpec("X", datatype, shape),), (), 0, False)
    with pytest.raises(UsageError, match=f"m X: the generate api .*{message}"):
        sent(tmp_path, "generate", Arm("http://h:1", "m", api="generate"), model, inputs=({"X": row},))


def test_openai_chat(tmp_path: Path) -> None:
    arm = Arm("http://h:9000", "llm", headers={"Authorization": "Bearer x"}, api="openai")
    line, headers, body = parted(sent(tmp_path, "openai-stream", arm, FRONT_END))
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert (headers["Authorization"], headers["Content-Type"]) == ("Bearer x", "application/json")
    assert json.loads(body) == {
        "model": "llm",
        "messages": [{"role": "user", "content": ASKED[0].text}],
        "max_tokens": 3,
        "temperature": 0.0,
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_openai_completions_and_what_an_arm_changes(tmp_path: Path) -> None:
    own = {"endpoint": "completions", "temperature": 0.5, "seed": None, "top_p": 0.9}
    # A model that Triton describes is asked the front end's way all the same.
    line, _, body = parted(sent(tmp_path, "openai", Arm("http://h:9000/x", "llm", parameters=own, api="openai"), VLLM))
    assert line == "POST /x/v1/completions HTTP/1.1"
    assert json.loads(body) == {
        "model": "llm",
        "prompt": ASKED[0].text,
        "max_tokens": 3,
        "temperature": 0.5,
        "stream": False,
        "top_p": 0.9,
    }
    with pytest.raises(UsageError, match="endpoint is chat or completions, not 'embeddings'"):
        sent(tmp_path, "openai", Arm("http://h:1", "llm", parameters={"endpoint": "embeddings"}), FRONT_END)


@pytest.mark.parametrize("wire", ["grpc-stream", "generate-stream", "openai-stream"])
def test_every_wire_has_a_hole_for_the_key_in_front_of_the_prompt(wire: Wire, tmp_path: Path) -> None:
    arm = Arm("http://h:1", "smollm2", 2)
    spec = make_spec(tmp_path, model=SMOLLM2, prompts=ASKED, cache="unique")
    template = encode(wire, arm, SMOLLM2, generation(spec, "baseline", 0))
    assert sorted(template.holes) == [False, True]
    one, two = (template.fill(b"i" * len(REQUEST_ID), key * KEY_SIZE) for key in (b"a", b"b"))
    assert len(one) == len(two) == template.size
    assert b"a" * KEY_SIZE + b" Say " in one
    assert one.replace(b"a" * KEY_SIZE, b"b" * KEY_SIZE) == two


def test_an_arms_header_takes_the_place_of_ours(tmp_path: Path) -> None:
    headers = {"host": "models.example", "content-type": "application/json; x", "x-request-id": "mine"}
    _, fields, _ = parted(sent(tmp_path, "generate", Arm("http://h:1", "smollm2", 1, headers), SMOLLM2))
    assert {name: fields[name] for name in headers} == headers
    assert "Host" not in fields


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"a": "b\r\nc: d"}, "line break"),
        ({"a\nb": "c"}, "line break"),
        ({"ä": "c"}, "character"),
        ({"a": "日"}, "holds '日'"),
        ({"Content-Length": "3"}, "frames the request"),
        ({"transfer-encoding": "chunked"}, "frames the request"),
    ],
)
@pytest.mark.parametrize("wire", ["http", "generate", "openai"])
def test_a_header_cannot_break_the_message(wire: Wire, headers: dict[str, str], reason: str, tmp_path: Path) -> None:
    arm = Arm("http://h:8000", "smollm2", 1, headers, api="openai" if wire == "openai" else "kserve")
    with pytest.raises(UsageError, match=reason):
        sent(tmp_path, wire, arm, SMOLLM2)


@pytest.mark.parametrize("wire", ["grpc", "http", "generate", "openai"])
def test_a_template_holds_the_requests_id_once(wire: Wire, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, model=SMOLLM2, prompts=ASKED)
    tensors = generation(spec, "baseline", 0)
    assert encode(wire, Arm("http://h:1", "smollm2", 1), SMOLLM2, tensors).holes == (True,)
