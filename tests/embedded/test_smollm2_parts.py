"""The language model's parts, without Triton: file, tokenizer, rounding, arithmetic."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.embedded.faults import errs
from harness.embedded.runtime import weights_file
from harness.embedded.smollm2.engine import Engine, top_logprobs
from harness.embedded.smollm2.gguf_file import GgufFile
from harness.embedded.smollm2.quantise import SHIFTED, e4m3, fp16, rounding
from harness.embedded.smollm2.tokenizer import Pieces, SmolTokenizer
from harness.embedded.smollm2.transformer import Transformer


@cache
def weights() -> GgufFile:
    file = weights_file()
    assert file is not None
    return GgufFile(file)


@cache
def tokenizer() -> SmolTokenizer:
    return SmolTokenizer(weights().metadata)


# ---------------------------------------------------------------- the file


@pytest.mark.weights
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["output_norm.weight", "blk.3.attn_k.weight", "blk.29.ffn_down.weight"])
def test_tensors_are_those_of_the_reference_reader(name: str) -> None:
    import gguf

    reference = next(t for t in gguf.GGUFReader(weights_file()).tensors if t.name == name)
    expected = gguf.dequantize(reference.data, reference.tensor_type)
    np.testing.assert_array_equal(weights().tensor(name), expected)
    assert weights().shapes[name] == expected.shape


@pytest.mark.weights
def test_metadata() -> None:
    meta = weights().metadata
    assert meta["llama.block_count"] == 30
    assert len(meta["tokenizer.ggml.tokens"]) == 49152
    assert meta["llama.rope.freq_base"] == 100000.0


@pytest.mark.parametrize("data", [b"PK\3\4" + bytes(40), b"GGUF" + struct.pack("<IQQ", 2, 0, 0)])
def test_another_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(ValueError, match=r"not a GGUF file|version 2, not 3"):
        GgufFile(tmp_path / "x.gguf")


# ---------------------------------------------------------------- tokenizer


@pytest.mark.weights
@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "  two spaces, a\ttab\nand 12345 digits",
        "naïve café, 東京, здравствуй, \N{FACE WITH TEARS OF JOY}",
        "def f(x):\n    return x ** 2\n",
        "<|im_end|> is text when a user writes it",
    ],
)
def test_a_text_survives_the_round_trip(text: str) -> None:
    ids = tokenizer().encode(text)
    assert tokenizer().decode(ids) == text
    assert tokenizer().end not in ids


@pytest.mark.weights
def test_known_ids() -> None:
    """Ids that the model itself speaks in; digits stand alone."""
    assert tokenizer().encode("The capital of France is Paris.") == [504, 3575, 282, 4649, 314, 7042, 30]
    assert len(tokenizer().encode("2024")) == 4


@pytest.mark.weights
def test_the_chat_template_is_the_one_in_the_file() -> None:
    import jinja2

    template = jinja2.Environment().from_string(weights().metadata["tokenizer.chat_template"])
    message = {"role": "user", "content": "Who are you?"}
    expected = template.render(messages=[message], add_generation_prompt=True)
    tokens = weights().metadata["tokenizer.ggml.tokens"]
    text = "".join(tokens[i] if i < 3 else tokenizer().decode([i]) for i in tokenizer().chat(message["content"]))
    assert text == expected


@pytest.mark.weights
def test_pieces_wait_for_whole_characters() -> None:
    text = "a \N{FACE WITH TEARS OF JOY} b"
    ids = tokenizer().encode(text)
    pieces = Pieces(tokenizer())
    parts = [pieces.add(i, last=False) for i in ids]
    assert "".join(parts) == text
    assert "" in parts
    assert not any("\N{REPLACEMENT CHARACTER}" in part for part in parts)
    assert pieces.add(ids[1], last=True) != "", "at the end, half a character is said as such"


# ---------------------------------------------------------------- rounding


def test_e4m3_by_rows() -> None:
    values = np.random.default_rng(1).normal(size=(64, 256)).astype(np.float32)
    values[:, 0] = 1000  # a bare cast of this gives NaN
    values[3] = 0
    rounded, scale = e4m3(values)
    assert scale.shape == (64, 1)
    assert np.isfinite(rounded).all()
    assert np.abs(rounded).max() <= 448
    large = np.abs(values) > 0.03 * np.abs(values).max(axis=1, keepdims=True)
    error = np.abs(rounded * scale - values)[large] / np.abs(values)[large]
    assert error.max() <= 1 / 16 + 1e-6  # three bits after the leading one
    np.testing.assert_array_equal(rounded[3], 0)


def test_builds_round_what_they_should() -> None:
    values = np.random.default_rng(2).normal(size=(8, 32)).astype(np.float32) * np.arange(1, 9)[:, None]
    values = values.astype(np.float32)
    for build in ("fp16", "same", "slow", "erring"):
        np.testing.assert_array_equal(rounding(build)("blk.0.attn_q.weight", values), fp16(values))
    good, shifted = rounding("fp8"), rounding("fp8-shifted")
    np.testing.assert_array_equal(good("token_embd.weight", values), fp16(values))
    np.testing.assert_array_equal(good("blk.0.attn_norm.weight", values[0]), fp16(values[0]))
    np.testing.assert_array_equal(shifted("blk.0.attn_q.weight", values), good("blk.0.attn_q.weight", values))
    scale = e4m3(values)[1]
    ratio = np.roll(scale, 1, axis=0) / scale
    np.testing.assert_allclose(shifted(SHIFTED[0], values), good(SHIFTED[0], values) * ratio, rtol=1e-5)


# ---------------------------------------------------------------- arithmetic


class SmallFile:
    """A small llama of random weights, with more query heads than key-value heads."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {
            "llama.context_length": 600,
            "llama.attention.head_count": 4,
            "llama.attention.head_count_kv": 2,
            "llama.embedding_length": 32,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.block_count": 2,
            "llama.rope.freq_base": 10000.0,
        }
        shapes: dict[str, tuple[int, ...]] = {"token_embd": (50, 32), "output_norm": (32,)}
        for i in range(2):
            layer = {"attn_norm": (32,), "attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32)}
            layer |= {"attn_output": (32, 32), "ffn_norm": (32,)}
            layer |= {"ffn_gate": (48, 32), "ffn_up": (48, 32), "ffn_down": (32, 48)}
            shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
        generator = np.random.default_rng(3)
        self.weights = {f"{name}.weight": generator.normal(size=shape) / 4 for name, shape in shapes.items()}

    def tensor(self, name: str) -> Any:
        return self.weights[name].astype(np.float32)


def naive_logits(file: SmallFile, ids: list[int]) -> Any:
    """The last token's logits, written out position by position in float64 with complex RoPE."""
    w = {name.removesuffix(".weight"): value.astype(np.float32).astype(float) for name, value in file.weights.items()}

    def rms(x: Any, weight: Any) -> Any:
        return x / np.sqrt((x * x).mean() + 1e-5) * weight

    def turn(x: Any, position: int) -> Any:
        pairs = x.reshape(-1, 8)[:, 0::2] + 1j * x.reshape(-1, 8)[:, 1::2]
        pairs = pairs * np.exp(1j * position * 10000.0 ** (-np.arange(4) / 4))
        return np.stack([pairs.real, pairs.imag], axis=-1).reshape(-1, 8)

    xs = [w["token_embd"][i] for i in ids]
    for i in range(2):
        layer = {name.removeprefix(f"blk.{i}."): value for name, value in w.items()}
        normed = [rms(x, layer["attn_norm"]) for x in xs]
        keys = [turn(layer["attn_k"] @ n, p) for p, n in enumerate(normed)]
        values = [(layer["attn_v"] @ n).reshape(-1, 8) for n in normed]
        for p, n in enumerate(normed):
            queries = turn(layer["attn_q"] @ n, p)
            mixed = []
            for head in range(4):
                scores = np.array([queries[head] @ keys[t][head // 2] for t in range(p + 1)]) / np.sqrt(8)
                shares = np.exp(scores) / np.exp(scores).sum()
                mixed.append(sum(s * values[t][head // 2] for t, s in enumerate(shares)))
            xs[p] = xs[p] + layer["attn_output"] @ np.concatenate(mixed)
        for p, x in enumerate(xs):
            n = rms(x, layer["ffn_norm"])
            gate = layer["ffn_gate"] @ n
            xs[p] = x + layer["ffn_down"] @ (gate / (1 + np.exp(-gate)) * (layer["ffn_up"] @ n))
    return w["token_embd"] @ rms(xs[-1], w["output_norm"])


def test_the_transformer_equals_one_written_out() -> None:
    file = SmallFile()
    model = Transformer(file, lambda name, values: values)  # type: ignore[arg-type]
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    at_once = model.forward(np.array(ids, np.int32), model.cache(8), last=3)
    for row, upto in enumerate((6, 7, 8)):
        np.testing.assert_allclose(at_once[row], naive_logits(file, ids[:upto]), rtol=1e-3, atol=1e-4)
    cache = model.cache(8)
    for i in ids:
        step = model.forward(np.array([i], np.int32), cache)
    np.testing.assert_allclose(step[0], at_once[-1], rtol=1e-4, atol=1e-5)


def test_a_long_prompt_in_blocks_is_the_same_and_can_be_stopped() -> None:
    model = Transformer(SmallFile(), lambda name, values: values)  # type: ignore[arg-type]
    ids = np.random.default_rng(4).integers(0, 50, 520).astype(np.int32)
    blocks = model.forward(ids, model.cache(600), last=300)
    cache = model.cache(600)
    model.forward(ids[:219], cache)
    np.testing.assert_allclose(model.forward(ids[219:519], cache)[0], blocks[-2], rtol=1e-3, atol=1e-4)
    cache = model.cache(600)
    with pytest.raises(InterruptedError):
        model.forward(ids, cache, stop=lambda: True)
    assert cache.length == 256


def test_top_logprobs_are_sorted_normal_and_stable() -> None:
    logits = np.array([[0.0, 3.0, 1.0, 3.0], [5.0, 5.0, 5.0, 5.0]], np.float32)
    ids, values = top_logprobs(logits, 3)
    assert ids.tolist() == [[1, 3, 2], [0, 1, 2]]
    expected = np.log(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(values, np.take_along_axis(expected, ids.astype(int), 1), rtol=1e-6)
    assert top_logprobs(logits, 4)[0].shape == (2, 4)
    assert top_logprobs(logits, 0)[1].shape == (2, 0)


@pytest.mark.parametrize(("slow", "slept"), [(True, [pytest.approx(0.3)]), (False, [])])
def test_slow_sleeps_thirty_per_cent_of_each_decode_step(
    monkeypatch: pytest.MonkeyPatch, slow: bool, slept: list[float]
) -> None:
    engine = Engine.__new__(Engine)
    engine._slow = slow
    clock, sleeps = iter([5.0, 6.0]), list[float]()
    monkeypatch.setattr("harness.embedded.smollm2.engine.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("harness.embedded.smollm2.engine.time.sleep", sleeps.append)
    engine._decoded(lambda: np.zeros((1, 2), np.float32))
    monkeypatch.undo()
    assert sleeps == slept


def test_erring_errs_in_thirty_per_cent() -> None:
    fates = [errs(number) for number in range(3000)]
    assert 0.27 < np.mean(fates) < 0.33
    assert fates == [errs(number) for number in range(3000)]
    assert 1 <= sum(fates[:12]) <= 8, "early in a run, too"


# ---------------------------------------------------------------- builds


PROMPTS = [
    "What is the capital of France?",
    "Why is the sky blue?",
    "Name a famous scientist.",
    "How do bees make honey?",
    "What should I pack for a trip to the beach?",
    "Tell me a joke about computers.",
]


@pytest.mark.weights
@pytest.mark.slow
def test_builds_differ_from_the_reference_as_they_should() -> None:
    """Mean KL per token on top 20 and a tail: the same weights none, FP8 a little, the shifted table much."""
    file = weights_file()
    assert file is not None
    reference = Engine(file, "fp16")
    answers = []
    for prompt in PROMPTS:
        steps = list(reference.generate(prompt, 8, 20))
        answers.append(
            [np.concatenate([getattr(s, f) for s in steps]) for f in ("token_ids", "topk_ids", "topk_logprobs")]
        )
    assert reference.tokenizer.decode(answers[0][0].tolist()) == "The capital of France is Paris."

    def divergence(engine: Engine) -> float:
        total = []
        for prompt, (ids, top_ids, top) in zip(PROMPTS, answers, strict=True):
            step = engine.score(prompt, ids.tolist(), 1000)
            assert step is not None
            for row in range(len(ids)):
                q_of = dict(zip(step.topk_ids[row].tolist(), step.topk_logprobs[row].tolist(), strict=True))
                p = np.exp(top[row].astype(float))
                q = np.exp([q_of.get(i, step.topk_logprobs[row, -1]) for i in top_ids[row].tolist()])
                p, q = np.append(p, max(1 - p.sum(), 1e-9)), np.append(q, max(1 - q.sum(), 1e-9))
                total.append(float((p * np.log(p / q)).sum()))
        return float(np.mean(total))

    floor = divergence(reference)
    del reference  # 538 MB each
    good, shifted = divergence(Engine(file, "fp8")), divergence(Engine(file, "fp8-shifted"))
    assert abs(floor) < 1e-5
    assert 0.002 < good < 0.05
    assert shifted > 2.5 * good
    assert shifted > 0.05
