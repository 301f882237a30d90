"""Inputs of token models and of any other, as the arms' models name them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tritonclient.utils import serialize_byte_tensor

from harness.errors import UsageError
from harness.load.payload import can_compare, can_score, generation, scoring
from harness.load.template import UNIQUE
from harness.tensors import DTYPES, Tensor, decode, encode
from harness.types import Arm, ModelInfo, Prompt, TensorSpec
from tests.load.conftest import SMOLLM2, TINY, make_spec

KINDS = [*DTYPES, "BF16", "BYTES"]
ASKED = (Prompt("a"), Prompt("Grüße", max_tokens=3))

VLLM = ModelInfo(
    name="vllm",
    platform="vllm",
    versions=(1,),
    inputs=(
        TensorSpec("text_input", "BYTES", (1,)),
        TensorSpec("image", "BYTES", (-1,), optional=True),
        TensorSpec("stream", "BOOL", (1,), optional=True),
        TensorSpec("sampling_parameters", "BYTES", (1,), optional=True),
        TensorSpec("exclude_input_in_output", "BOOL", (1,), optional=True),
        TensorSpec("return_finish_reason", "BOOL", (1,), optional=True),
        TensorSpec("return_logprobs", "BOOL", (1,), optional=True),
        TensorSpec("return_num_input_tokens", "BOOL", (1,), optional=True),
        TensorSpec("return_num_output_tokens", "BOOL", (1,), optional=True),
        TensorSpec("embedding_request", "BYTES", (1,), optional=True),
    ),
    outputs=(TensorSpec("text_output", "BYTES", (-1,)), TensorSpec("num_output_tokens", "UINT32", (-1,))),
    max_batch_size=0,
    decoupled=True,
)
TENSORRT_LLM = ModelInfo(
    name="ensemble",
    platform="ensemble",
    versions=(1,),
    inputs=(
        TensorSpec("text_input", "BYTES", (1,)),
        TensorSpec("max_tokens", "INT32", (1,)),
        TensorSpec("bad_words", "BYTES", (-1,)),
        TensorSpec("stop_words", "BYTES", (-1,), optional=True),
        TensorSpec("end_id", "INT32", (1,), optional=True),
        TensorSpec("top_k", "INT32", (1,), optional=True),
        TensorSpec("temperature", "FP32", (1,), optional=True),
        TensorSpec("random_seed", "UINT64", (1,), optional=True),
        TensorSpec("return_log_probs", "BOOL", (1,), optional=True),
        TensorSpec("stream", "BOOL", (1,), optional=True),
    ),
    outputs=(TensorSpec("text_output", "BYTES", (-1,)),),
    max_batch_size=128,
    decoupled=True,
)
LLM_API = ModelInfo(
    name="tensorrt_llm",
    platform="python",
    versions=(1,),
    inputs=(
        TensorSpec("text_input", "BYTES", (-1,)),
        TensorSpec("image_url", "BYTES", (-1,), optional=True),
        TensorSpec("streaming", "BOOL", (1,), optional=True),
        TensorSpec("sampling_param_temperature", "FP32", (1,), optional=True),
        TensorSpec("sampling_param_top_k", "INT32", (1,), optional=True),
        TensorSpec("sampling_param_max_tokens", "INT32", (1,), optional=True),
        TensorSpec("sampling_param_seed", "UINT64", (1,), optional=True),
        TensorSpec("sampling_param_exclude_input_from_output", "BOOL", (1,), optional=True),
        TensorSpec("return_finish_reason", "BOOL", (1,), optional=True),
        TensorSpec("stop", "BOOL", (1,), optional=True),
    ),
    outputs=(TensorSpec("text_output", "BYTES", (-1,)), TensorSpec("finish_reason", "BYTES", (-1,))),
    max_batch_size=64,
    decoupled=True,
)


def values(tensors: list[Tensor]) -> dict[str, list[Any]]:
    return {t.name: decode(t.datatype, t.raw) for t in tensors}


def asked(tmp_path: Path, model: ModelInfo, arm: dict[str, Any] | None = None, **changes: Any) -> dict[str, list[Any]]:
    spec = make_spec(tmp_path, model=model, prompts=ASKED, **changes)
    spec = replace(spec, arms={"baseline": replace(spec.arms["baseline"], **(arm or {}))})
    return values(generation(spec, "baseline", 0))


def test_a_prompt_says_how_long_its_answer_may_be_and_the_load_where_it_does_not(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, model=SMOLLM2, prompts=ASKED, max_tokens=5, logprobs_k=20)
    first, second = (values(generation(spec, "candidate", number)) for number in (0, 1))
    assert (first["max_tokens"], second["max_tokens"]) == ([5], [3])
    assert second["text_input"] == ["Grüße".encode()]
    assert second["logprobs"] == [20]
    assert second["stream"] == [True]
    assert "forced_ids" not in second


def test_no_comparison_no_logprobs(tmp_path: Path) -> None:
    assert asked(tmp_path, SMOLLM2).keys() == {"text_input", "max_tokens", "stream"}


def test_who_wants_no_stream_gets_none(tmp_path: Path) -> None:
    assert asked(tmp_path, SMOLLM2, {"stream": False})["stream"] == [False]
    assert asked(tmp_path, replace(SMOLLM2, decoupled=False))["stream"] == [False]
    over_http = {"url": "http://h:1", "api": "generate"}
    assert asked(tmp_path, SMOLLM2, over_http)["stream"] == [True]
    assert asked(tmp_path, SMOLLM2, {**over_http, "stream": False})["stream"] == [False]


def test_a_scoring_request_forces_the_tokens_and_does_not_stream(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, model=SMOLLM2, prompts=ASKED, logprobs_k=20, cache="unique")
    inputs = {t.name: t for t in scoring(spec, "baseline", 1, [3, 4, 5])}
    assert (inputs["forced_ids"].shape, inputs["forced_ids"].raw) == ((3,), np.array([3, 4, 5], "<i4").tobytes())
    assert inputs["stream"].raw == b"\0"
    assert inputs["logprobs"].raw == b"\x14\0\0\0"
    # The tokens were said after this very text.
    assert decode("BYTES", inputs["text_input"].raw) == [f"{UNIQUE} Grüße".encode()]


def test_vllm_is_asked_greedily_and_to_count(tmp_path: Path) -> None:
    inputs = asked(tmp_path, VLLM)
    assert inputs.keys() == {
        "text_input", "stream", "sampling_parameters", "exclude_input_in_output", "return_finish_reason",
        "return_num_input_tokens", "return_num_output_tokens",
    }  # fmt: skip
    assert json.loads(inputs["sampling_parameters"][0]) == {"max_tokens": 8, "temperature": 0, "seed": 7}
    assert inputs["return_num_output_tokens"] == [True]


@pytest.mark.parametrize("own", [{"top_p": 0.9, "temperature": 0.1}, '{"top_p": 0.9, "temperature": 0.1}'])
def test_an_arms_sampling_for_vllm_is_in_the_one_json_that_it_reads(own: Any, tmp_path: Path) -> None:
    arm = {"parameters": {"sampling_parameters": own, "temperature": 0.7, "lora_name": "x", "priority": 1}}
    inputs = asked(tmp_path, VLLM, arm)
    assert json.loads(inputs["sampling_parameters"][0]) == {
        "max_tokens": 8, "temperature": 0.1, "seed": 7, "lora_name": "x", "top_p": 0.9,
    }  # fmt: skip


@pytest.mark.parametrize(("own", "wrong"), [("{top_p", "is not JSON"), ("[1]", "is no mapping"), (5, "is no mapping")])
def test_sampling_parameters_that_are_no_json_are_named(own: Any, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"sampling_parameters of vllm {wrong}"):
        asked(tmp_path, VLLM, {"parameters": {"sampling_parameters": own}})


def test_tensorrt_llm_is_asked_greedily_and_given_what_it_requires(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, model=TENSORRT_LLM, prompts=ASKED)
    tensors = generation(spec, "baseline", 0)
    assert {t.name: t.shape for t in tensors} == dict.fromkeys(
        ("text_input", "max_tokens", "bad_words", "top_k", "random_seed", "stream"), (1, 1)
    )
    inputs = values(tensors)
    assert (inputs["top_k"], inputs["random_seed"], inputs["bad_words"]) == ([1], [7], [b""])
    more = asked(
        tmp_path, TENSORRT_LLM, {"parameters": {"end_id": 2, "return_log_probs": True, "bad_words": ["a", "b"]}}
    )
    assert (more["end_id"], more["return_log_probs"], more["bad_words"]) == ([2], [True], [b"a", b"b"])
    # Who asks for a temperature wants it to have an effect.
    warm = asked(tmp_path, TENSORRT_LLM, {"parameters": {"temperature": 0.5}})
    assert (warm["temperature"], warm.get("top_k")) == ([0.5], None)


def test_tensorrt_llms_llm_api_has_names_of_its_own(tmp_path: Path) -> None:
    assert asked(tmp_path, LLM_API) == {
        "text_input": [b"a"],
        "streaming": [True],
        "sampling_param_top_k": [1],
        "sampling_param_max_tokens": [8],
        "sampling_param_seed": [7],
        "sampling_param_exclude_input_from_output": [True],
        "return_finish_reason": [True],
    }
    without = replace(LLM_API, inputs=tuple(t for t in LLM_API.inputs if t.name != "sampling_param_top_k"))
    assert asked(tmp_path, without)["sampling_param_temperature"] == [0.0]


def test_a_sampler_without_top_k_is_greedy_by_temperature(tmp_path: Path) -> None:
    model = replace(SMOLLM2, inputs=(*SMOLLM2.inputs, TensorSpec("temperature", "FP32", (1,))))
    assert asked(tmp_path, model)["temperature"] == [0.0]
    assert asked(tmp_path, model, {"parameters": {"temperature": 0.5}})["temperature"] == [0.5]


def test_a_required_input_that_nobody_knows_is_named(tmp_path: Path) -> None:
    model = replace(SMOLLM2, inputs=(*SMOLLM2.inputs, TensorSpec("style", "BYTES", (1,))))
    with pytest.raises(UsageError, match=r"needs the input style.*parameters"):
        asked(tmp_path, model)
    assert asked(tmp_path, model, {"parameters": {"style": "plain"}})["style"] == [b"plain"]


def test_a_unique_key_stands_in_front_of_each_prompt(tmp_path: Path) -> None:
    assert asked(tmp_path, SMOLLM2, cache="unique")["text_input"] == [f"{UNIQUE} a".encode()]
    with pytest.raises(UsageError, match=r"load.cache.*tiny reads none"):
        generation(make_spec(tmp_path, cache="unique"), "baseline", 0)
    text = ModelInfo("embed", "python", (1,), (TensorSpec("text", "BYTES", (1,)),), (), 0, decoupled=False)
    rows = make_spec(tmp_path, model=text, inputs=({"text": [f"{UNIQUE} a"]},), cache="unique")
    assert UNIQUE.encode() in generation(rows, "baseline", 0)[0].raw, "a row may have one, too"


def test_which_models_can_be_compared_and_scored() -> None:
    assert can_compare(SMOLLM2)
    assert can_score(SMOLLM2)
    assert can_score(SMOLLM2, "generate")
    assert not can_score(SMOLLM2, "openai")
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
    (one,) = generation(make_spec(tmp_path, model=model), "baseline", 0)
    assert (one.shape, len(decode(datatype, one.raw))) == ((1, 3, 1, 2), 6)
    (five,) = generation(make_spec(tmp_path, model=model, shapes={"X": (5,)}), "baseline", 0)
    assert (five.shape, len(decode(datatype, five.raw))) == ((1, 3, 5, 2), 30)


def test_an_optional_input_is_left_out_unless_there_is_nothing_else(tmp_path: Path) -> None:
    needed, optional = TensorSpec("X", "FP32", (1,)), TensorSpec("Y", "FP32", (2,), optional=True)
    for inputs, names in (((needed, optional), ["X"]), ((optional,), ["Y"])):
        model = ModelInfo("m", "p", (1,), inputs, (), 0, False)
        assert [t.name for t in generation(make_spec(tmp_path, model=model), "baseline", 0)] == names


ROWS = ModelInfo(
    "rows", "p", (1,),
    (
        TensorSpec("IDS", "INT64", (-1,)),
        TensorSpec("GRID", "FP16", (2, -1)),
        TensorSpec("OPEN", "FP32", (-1, -1), optional=True),
        TensorSpec("WORDS", "BYTES", (1,), optional=True),
    ),
    (), 0, False,
)  # fmt: skip


def rows(tmp_path: Path, *inputs: dict[str, Any], number: int = 0, **changes: Any) -> dict[str, Tensor]:
    spec = make_spec(tmp_path, model=ROWS, inputs=inputs, **changes)
    return {t.name: t for t in generation(spec, "baseline", number)}


def test_given_rows_are_sent_and_settle_the_free_dimension(tmp_path: Path) -> None:
    given = ({"IDS": [1, 2, 3], "GRID": [1, 2, 3, 4, 5, 6]}, {"IDS": [4], "GRID": [7, 8], "WORDS": ["ä"]})
    first, second, again = (rows(tmp_path, *given, number=number) for number in (0, 1, 2))
    assert (first["IDS"].shape, decode("INT64", first["IDS"].raw)) == ((3,), [1, 2, 3])
    assert (first["GRID"].shape, first["GRID"].raw) == ((2, 3), np.arange(1, 7, dtype="<f2").tobytes())
    assert (second["GRID"].shape, decode("BYTES", second["WORDS"].raw)) == ((2, 1), ["ä".encode()])
    assert again == first


def test_rows_may_bring_their_shape_or_raw_bytes(tmp_path: Path) -> None:
    row = {
        "IDS": {"b64": "AQAAAAAAAAACAAAAAAAAAA=="},
        "GRID": [1, 2],
        "OPEN": {"content": [1.0, 2.0, 3.0, 4.0], "shape": [1, 4]},
        "WORDS": {"b64": "/9j/"},
    }
    made = rows(tmp_path, row)
    assert (made["IDS"].shape, decode("INT64", made["IDS"].raw)) == ((2,), [1, 2])
    assert made["OPEN"].shape == (1, 4)
    assert decode("BYTES", made["WORDS"].raw) == [b"\xff\xd8\xff"]


@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        ({"IDS": [1], "GRID": [1, 2, 3]}, {}, r"rows GRID: 3 values do not fill its shape \[2, 1\]: set load.shapes"),
        ({"IDS": [1], "GRID": [1, 2], "OPEN": [1, 2]}, {}, r"rows OPEN: .* free dimensions open: set load.shapes"),
        ({"IDS": [1]}, {}, r"load.inputs: row 1 gives rows no GRID"),
        ({"IDS": [1], "GRID": [1, 2], "GIRD": [1]}, {}, r"load.inputs: rows has no input 'GIRD'; known are IDS, GRID"),
        ({"IDS": ["x"], "GRID": [1, 2]}, {}, r"rows IDS: values do not fit INT64"),
        ({"IDS": [2**70], "GRID": [1, 2]}, {}, r"rows IDS: values do not fit INT64"),
        ({"IDS": {"b64": "AQ=="}, "GRID": [1, 2]}, {}, r"IDS: 1 bytes are no whole number of INT64"),
        ({"IDS": {"b64": "%"}, "GRID": [1, 2]}, {}, r"rows IDS: what b64 holds is not base64"),
        ({"IDS": [1], "GRID": {"content": [1], "shape": [1, 1]}}, {}, r"its row: \[1, 1\] does not fit rows GRID"),
        ({"IDS": [1], "GRID": [1, 2]}, {"shapes": {"GRID": (3, 1)}}, r"load.shapes: \[3, 1\] does not fit rows GRID"),
        ({"IDS": [1], "GRID": [1, 2]}, {"shapes": {"grid": (3,)}}, r"load.shapes: rows has no input 'grid'"),
    ],
)
def test_rows_that_do_not_fit_are_said_in_one_line(
    row: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        rows(tmp_path, row, **changes)
    assert "\n" not in str(raised.value)


def test_shapes_settle_what_values_do_not(tmp_path: Path) -> None:
    row = {"IDS": [1], "GRID": [1, 2], "OPEN": [1, 2, 3, 4]}
    assert rows(tmp_path, row, shapes={"OPEN": (2, 2)})["OPEN"].shape == (2, 2)
    assert rows(tmp_path, shapes={"GRID": (4,), "IDS": (9,)})["GRID"].shape == (2, 4)


def test_an_arms_parameters_are_inputs_of_any_model(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, model=ROWS)
    arm = Arm("grpc://h:1", "rows", 1, parameters={"IDS": [5, 6], "WORDS": "w", "priority": 1})
    made = {t.name: t for t in generation(replace(spec, arms={"baseline": arm}), "baseline", 0)}
    assert (decode("INT64", made["IDS"].raw), decode("BYTES", made["WORDS"].raw)) == ([5, 6], [b"w"])


def test_rows_and_shapes_may_speak_of_the_other_arms_model(tmp_path: Path) -> None:
    row = {"IDS": [1], "GRID": [1, 2], "INPUT": [0.5] * 16}
    arms = {"baseline": Arm("grpc://h:1", "rows"), "candidate": Arm("grpc://h:1", "tiny")}
    models: Any = {"baseline": ROWS, "candidate": TINY}
    spec = make_spec(tmp_path, arms=arms, models=models, inputs=(row,), shapes={"IDS": (1,), "INPUT": (16,)})
    assert [t.name for t in generation(spec, "baseline", 0)] == ["IDS", "GRID"]
    assert [t.name for t in generation(spec, "candidate", 0)] == ["INPUT"]


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
    odd = np.random.default_rng(1).integers(0, 2**32, 10_000, np.uint32).view(np.float32)
    odd = np.concatenate([odd[~np.isnan(odd)], np.float32([0, -0.0, np.inf, -np.inf, 3.4e38, 1.00390625])])
    with np.errstate(over="ignore"):
        assert encode("BF16", odd) == odd.astype(ml_dtypes.bfloat16).tobytes()
    assert np.isnan(decode("BF16", encode("BF16", [np.nan, -np.nan]))).all()
    with pytest.raises(ValueError, match="too early"):
        decode("BYTES", encode("BYTES", words)[:-1])


EMBEDDING = ModelInfo(
    name="e5",
    platform="onnx",
    versions=(1,),
    inputs=(TensorSpec("text", "BYTES", (1,)), TensorSpec("note", "BYTES", (1,), optional=True)),
    outputs=(TensorSpec("vector", "FP32", (384,)),),
    max_batch_size=8,
    decoupled=False,
)


def test_a_prompt_is_asked_of_any_model_that_reads_one_text(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, model=EMBEDDING, prompts=ASKED)
    assert [values(generation(spec, "baseline", number)) for number in (0, 1)] == [
        {"text": [b"a"]}, {"text": ["Grüße".encode()]},
    ]  # fmt: skip
    unique = replace(spec, cache="unique")
    assert values(generation(unique, "baseline", 0)) == {"text": [f"{UNIQUE} a".encode()]}


def test_prompts_are_not_left_out_in_silence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^tiny: prompts are for a model with one text input; it has 0$"):
        generation(make_spec(tmp_path, prompts=ASKED), "baseline", 0)
    needy = replace(EMBEDDING, inputs=(*EMBEDDING.inputs, TensorSpec("size", "INT32", (1,))))
    spec = make_spec(tmp_path, model=needy, prompts=ASKED)
    with pytest.raises(UsageError, match=r"^e5 needs the input size: give it in the arm's parameters$"):
        generation(spec, "baseline", 0)
    arm = replace(spec.arms["baseline"], parameters={"size": 5})
    assert values(generation(replace(spec, arms={"baseline": arm}), "baseline", 0)) == {"text": [b"a"], "size": [5]}


def test_a_batch_stands_in_front_of_a_whole_shape(tmp_path: Path) -> None:
    pair = replace(TINY, max_batch_size=8, inputs=(TensorSpec("A", "FP32", (16,)), TensorSpec("B", "INT8", (-1, 2))))
    shapes = {"A": (4, 16), "B": (4, 3, 2)}
    one, two = generation(make_spec(tmp_path, model=pair, shapes=shapes), "baseline", 0)
    assert (one.shape, len(one.raw), two.shape, len(two.raw)) == ((4, 16), 4 * 16 * 4, (4, 3, 2), 24)
    rows = ({"A": [1] * 32, "B": [2] * 4},)
    one, two = generation(
        make_spec(tmp_path, model=pair, shapes={"A": (2, 16), "B": (2, 1, 2)}, inputs=rows), "baseline", 0
    )
    assert (one.shape, two.shape, two.raw) == ((2, 16), (2, 1, 2), bytes([2] * 4))
    with pytest.raises(UsageError, match=r"one batch for all inputs, not A 4, B 1: set load\.shapes of each"):
        generation(make_spec(tmp_path, model=pair, shapes={"A": (4, 16)}), "baseline", 0)
    with pytest.raises(UsageError, match=r"\[9, 16\] does not fit tiny A, whose shape is \[16\] in batches of 8 at"):
        generation(make_spec(tmp_path, model=pair, shapes={"A": (9, 16)}), "baseline", 0)
    with pytest.raises(UsageError, match=r"\[4, 16\] does not fit tiny INPUT, whose shape is \[16\]$"):
        generation(make_spec(tmp_path, shapes={"INPUT": (4, 16)}), "baseline", 0)
