"""The architecture and its builds, on a CPU: against the formulas in float64, and against the same model in NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from harness.embedded.llama.cache import Cache
from harness.embedded.llama.graphs import Replay, Steps, sizes
from harness.embedded.llama.linear import Float8, float8, half
from harness.embedded.llama.loading import load
from harness.embedded.llama.model import SmolLM2
from harness.embedded.llama.plain import quantise
from harness.embedded.llama.settings import BUILDS, settle_llama
from harness.embedded.llama.shapes import SHAPES, Shape
from harness.embedded.llama.transformer import BLOCK, Transformer
from harness.embedded.llama.weights import MATRICES, RandomSource
from harness.embedded.repository import SMOLLM2_BUILDS
from harness.embedded.runtime import weights_available, weights_file

IDS = [17, 300, 44, 511, 18, 18, 91, 205]
PROMPT = "What is the capital of France?"


def by_hand(source: RandomSource, ids: list[int]) -> np.ndarray:
    """Logits (tokens, vocabulary) of a sequence, in float64 and without a cache."""
    shape = source.shape

    def f64(tensor: torch.Tensor) -> np.ndarray:
        return tensor.half().double().numpy()

    def norm(x: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + shape.epsilon)

    def turned(x: np.ndarray) -> np.ndarray:  # (tokens, heads, head)
        turns = shape.rope_base ** (-np.arange(0, shape.head, 2) / shape.head)
        angle = np.exp(1j * np.outer(np.arange(len(ids)), turns))[:, None]
        pairs = (x[..., 0::2] + 1j * x[..., 1::2]) * angle
        return np.stack((pairs.real, pairs.imag), axis=3).reshape(x.shape)

    x = f64(source.embedding())[ids]
    for layer in range(shape.layers):
        w = {name: f64(source.matrix(name, layer)) for name in MATRICES}
        y = norm(x)
        q = turned((y @ w["attn_q"].T).reshape(len(ids), shape.heads, shape.head))
        k = turned((y @ w["attn_k"].T).reshape(len(ids), shape.kv_heads, shape.head))
        v = (y @ w["attn_v"].T).reshape(len(ids), shape.kv_heads, shape.head)
        mixed = np.zeros_like(q)
        for head in range(shape.heads):
            mine = head // (shape.heads // shape.kv_heads)
            scores = q[:, head] @ k[:, mine].T / np.sqrt(shape.head)
            scores[np.triu_indices(len(ids), 1)] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed[:, head] = weights / weights.sum(axis=1, keepdims=True) @ v[:, mine]
        x = x + mixed.reshape(len(ids), -1) @ w["attn_output"].T
        y = norm(x)
        gate = y @ w["ffn_gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w["ffn_up"].T)) @ w["ffn_down"].T
    return norm(x) @ f64(source.embedding()).T


@pytest.fixture(scope="module")
def tiny() -> Transformer:
    return load(settle_llama("fp16"), "cpu")


def test_it_computes_what_the_formulas_say(tiny: Transformer) -> None:
    expected = by_hand(RandomSource(SHAPES["tiny"], 1, "cpu"), IDS)
    found = tiny.prefill(IDS, tiny.cache(1, 16), 0, last=len(IDS)).numpy()
    assert np.abs(found - expected).max() < 0.01 * expected.std()


@pytest.mark.parametrize("build", BUILDS)
def test_steps_give_what_a_prompt_gives(build: str) -> None:
    """Token by token, in a slot among others, or all at once: the same logits, in every build."""
    settings = settle_llama(build)
    model = load(settings, "cpu")
    at_once = model.prefill(IDS, model.cache(1, 16, settings.kv), 0, last=4)
    cache = model.cache(3, 16, settings.kv)
    model.prefill(IDS[:4], cache, 2)
    model.prefill(list(reversed(IDS)), cache, 0)
    steps = Steps(model, cache)
    for row, token in enumerate(IDS[4:]):
        logits = steps.run([7, token], [0, 2])
        assert torch.allclose(logits[1], at_once[row], atol=0.02)
    assert cache.lengths == [len(IDS) + 4, 0, len(IDS)]


def test_a_prompt_of_several_blocks_is_one_prompt() -> None:
    shape = Shape(layers=1, width=32, heads=2, kv_heads=1, head=16, hidden=32, vocabulary=64, context=2 * BLOCK)
    model = Transformer(RandomSource(shape, 3, "cpu"), "fp16", "cpu")
    ids = [16 + i % 40 for i in range(BLOCK + 3)]
    several = model.prefill(ids, model.cache(1, len(ids)), 0, last=5)
    cache = model.cache(1, len(ids))
    model.prefill(ids[:-5], cache, 0)
    one = model.prefill(ids[-5:], cache, 0, last=5)
    assert several.shape == (5, 64)
    assert torch.allclose(several, one, atol=0.02)


def test_a_prompt_stops_between_its_blocks() -> None:
    shape = Shape(layers=1, width=32, heads=2, kv_heads=1, head=16, hidden=32, vocabulary=64, context=2 * BLOCK)
    model = Transformer(RandomSource(shape, 3, "cpu"), "fp16", "cpu")
    cache = model.cache(1, 2 * BLOCK)
    with pytest.raises(InterruptedError):
        model.prefill([17] * (BLOCK + 1), cache, 0, stop=lambda: True)
    assert cache.lengths == [BLOCK]


def test_fp8_is_a_little_off_and_shifted_scales_are_far_off() -> None:
    """By the KL divergence a token from FP16, of a model whose rows differ in size, as trained ones do."""

    class Uneven(RandomSource):
        def matrix(self, name: str, layer: int) -> torch.Tensor:
            weight = super().matrix(name, layer)
            return weight * torch.tensor([0.4, 1.0, 1.6, 1.0]).repeat(len(weight) // 4)[:, None]

    def logits(weights: str) -> torch.Tensor:
        model = Transformer(Uneven(SHAPES["tiny"], 1, "cpu"), weights, "cpu")
        return torch.log_softmax(model.prefill(IDS, model.cache(1, 16), 0, last=len(IDS)).double(), 1)

    reference = logits("fp16")
    divergence = {w: float((reference.exp() * (reference - logits(w))).sum(1).mean()) for w in ("fp8", "fp8-shifted")}
    assert 0 < divergence["fp8"] < 0.03
    assert divergence["fp8-shifted"] > 3 * divergence["fp8"]


def test_a_float8_matrix_multiplies_what_was_rounded() -> None:
    rng = torch.Generator().manual_seed(2)
    weight, x = torch.randn(48, 32, generator=rng), torch.randn(5, 32, generator=rng)
    weight[7] *= 1000
    parts = [weight[:16], weight[16:]]
    found = float8(parts)(quantise(x)).double()
    (w, w_scale), (v, v_scale) = quantise(weight), quantise(x)
    exact = (v.double() * v_scale) @ (w.double() * w_scale).t()
    assert torch.allclose(found, exact, rtol=2e-3, atol=1e-3 * exact.abs().mean())
    assert torch.allclose(found, (x @ weight.t()).double(), rtol=0.1, atol=0.1 * float(exact.abs().mean()))
    (values, scale), (columns, column_scale) = quantise(x), quantise(weight)
    scaled = torch._scaled_mm(
        values, columns.t(), scale_a=scale, scale_b=column_scale.t().contiguous(), out_dtype=torch.float16
    )
    assert torch.allclose(found, scaled.double(), rtol=2e-3, atol=1e-3 * float(exact.abs().mean()))
    plain = half(parts)(x).double()
    assert torch.allclose(plain, (x @ weight.half().float().t()).double(), rtol=1e-3, atol=0.02)


def test_shifted_scales_are_those_of_the_row_above_in_each_part() -> None:
    weight = torch.eye(32)[:16] * torch.arange(1, 17)[:, None]
    x = torch.ones(1, 32)
    right, wrong = float8([weight, 10 * weight])(quantise(x)), float8([weight, 10 * weight], True)(quantise(x))
    assert torch.allclose(right[0, :16], torch.arange(1.0, 17).half(), rtol=1e-3)
    assert torch.allclose(wrong[0, :16], torch.tensor([16.0, *range(1, 16)]).half(), rtol=1e-3)
    assert torch.allclose(wrong[0, 16:], 10 * wrong[0, :16], rtol=1e-3)


@pytest.mark.parametrize("weights", ["fp16", "fp8", "fp8-shifted"])
def test_a_widened_model_is_the_same_function(weights: str) -> None:
    narrow, wide = (load(settle_llama({"weights": weights, "widened": times}), "cpu") for times in (1, 8))
    assert (wide.shape.width, wide.shape.hidden) == (8 * narrow.shape.width, 8 * narrow.shape.hidden)
    assert wide.shape.layer_weights > 30 * narrow.shape.layer_weights
    assert wide.shape.kv_bytes(16) == narrow.shape.kv_bytes(16)
    expected, found = (model.prefill(IDS, model.cache(1, 16), 0, last=4) for model in (narrow, wide))
    assert torch.allclose(found, expected, atol=0.02)


def test_smollm2_on_a_gpu_has_the_builds_that_it_has_on_a_cpu() -> None:
    for build in SMOLLM2_BUILDS:
        settings = SmolLM2()._settled(build)
        assert (settings.shape, settings.widened) == ("smollm2", 8)
        assert settings.weights == (build if build.startswith("fp8") else "fp16")
        assert settings.fault == (build if build in ("slow", "erring") else "")


def test_random_weights_are_those_of_their_seed() -> None:
    def first(seed: int) -> torch.Tensor:
        return RandomSource(SHAPES["tiny"], seed, "cpu").matrix("ffn_up", 1)

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
    source = RandomSource(SHAPES["tiny"], 1, "cpu")
    assert not torch.equal(source.matrix("ffn_up", 0), source.matrix("ffn_up", 1))
    assert not torch.equal(source.matrix("ffn_up", 1), source.matrix("ffn_gate", 1))


def test_the_arithmetic_of_a_shape_is_that_of_its_tensors(tiny: Transformer) -> None:
    shape = SHAPES["tiny"]
    source = RandomSource(shape, 1, "cpu")
    layer = sum(source.matrix(name, 0).numel() for name in MATRICES)
    assert shape.layer_weights == layer
    norms = (2 * shape.layers + 1) * shape.width
    assert shape.weights == shape.layers * layer + norms + source.embedding().numel()
    cache = Cache(shape, 3, 20, "fp16", "cpu")
    held = sum(each.numel() * each.element_size() for pair in cache.layers for each in pair)
    assert held == 3 * 20 * shape.kv_bytes(16)
    assert tiny.cache(1, 8, "fp8").layers[0][0].element_size() == 1
    assert shape.step_bytes(8, 16, 2, 10) < shape.step_bytes(16, 16, 2, 10)


@pytest.mark.parametrize(("name", "billions"), [("1b", 1.24), ("7b", 6.6), ("8b", 7.5)])
def test_the_shapes_are_as_large_as_they_are_called(name: str, billions: float) -> None:
    """With one embedding for both ends; the originals of 7b and 8b have two."""
    shape = SHAPES[name]
    assert shape.weights / 1e9 == pytest.approx(billions, rel=0.02)
    widths = (shape.width, shape.qkv, shape.heads * shape.head, shape.hidden)
    assert all(width % 16 == 0 for width in widths), "what _scaled_mm asks for"


class Padded:
    """In place of a graph: rows as a graph is given them, all of which are computed."""

    def __init__(self, model: Transformer, cache: Cache) -> None:
        self._model, self._cache = model, cache
        self.used: list[int] = []

    def __call__(self, size: int) -> Replay:
        def replay(rows: torch.Tensor) -> torch.Tensor:
            assert rows.shape == (3, size)
            self.used.append(size)
            return self._model.step(rows[0], rows[1], rows[2], self._cache)

        return replay


def test_fewer_rows_than_were_recorded_repeat_the_first(tiny: Transformer) -> None:
    plain, cache = tiny.cache(5, 100), tiny.cache(5, 100)
    padded = Padded(tiny, cache)
    recorded = Steps(tiny, cache, padded)
    for slot in range(5):
        expected = tiny.prefill(IDS[slot:], plain, slot)
        assert torch.allclose(recorded.prefill(IDS[slot:], slot), expected, atol=0.02), "rows of one slot are a prompt"
    assert padded.used == [64, 64, 64, 5, 4]
    for rows in ([4, 1, 3], [2], [0, 1, 2, 3, 4]):
        padded.used.clear()
        expected = Steps(tiny, plain).run([20 + row for row in rows], rows)
        assert torch.allclose(recorded.run([20 + row for row in rows], rows), expected, atol=0.02)
        assert padded.used == [{3: 4, 1: 1, 5: 5}[len(rows)]]
    assert cache.lengths == plain.lengths
    for mine, theirs in zip(cache.layers, plain.layers, strict=True):
        for slot, length in enumerate(plain.lengths):
            assert torch.allclose(mine[0][slot, :, :length].float(), theirs[0][slot, :, :length].float(), atol=0.02)


def test_a_prompt_that_goes_on_and_one_that_is_too_long_for_a_graph(tiny: Transformer) -> None:
    ids = [16 + i % 90 for i in range(150)]
    cache = tiny.cache(2, 160)
    padded = Padded(tiny, cache)
    recorded = Steps(tiny, cache, padded)
    recorded.prefill(ids[:100], 1)
    recorded.prefill(ids[100:140], 1)
    found = recorded.prefill(ids[140:], 1, last=4)
    assert padded.used == [128, 64, 64], "sizes that fit into a slot"
    assert torch.allclose(found, tiny.prefill(ids, tiny.cache(1, 160), 0, last=4), atol=0.02)
    recorded.prefill(ids, 0)
    assert len(padded.used) == 3
    assert cache.lengths == [150, 150]


def test_without_graphs_it_goes_on(tiny: Transformer, capsys: pytest.CaptureFixture[str]) -> None:
    def refuses(_: int) -> Replay:
        raise RuntimeError("operation not permitted when stream is capturing")

    cache = tiny.cache(2, 32)
    steps = Steps(tiny, cache, refuses)
    assert "steps are not recorded as graphs: operation not permitted" in capsys.readouterr().err
    assert torch.allclose(steps.prefill(IDS, 0), tiny.prefill(IDS, tiny.cache(1, 32), 0), atol=0.02)
    assert steps.run([17], [0]).shape == (1, 512)


def test_sizes_end_with_the_most() -> None:
    assert sizes(1) == [1]
    assert sizes(6) == [1, 2, 4, 6]
    assert sizes(8) == [1, 2, 4, 8]


@pytest.mark.weights
@pytest.mark.skipif(weights_available() is not None, reason=str(weights_available()))
@pytest.mark.parametrize("build", ["fp16", "fp8"])
def test_smollm2_says_what_it_says_in_numpy(build: str) -> None:
    """In FP8 the activations are rounded, too: near, and no more."""
    from harness.embedded.smollm2.engine import Engine

    reference = Engine(weights_file() or Path(), build)
    prompt = reference.tokenizer.chat(PROMPT)
    forced = reference.tokenizer.encode("The capital of France is Paris.")
    expected = reference.score(PROMPT, forced, 1000)
    assert expected is not None
    model = load(settle_llama(build, shape="smollm2"), "cpu")
    logits = model.prefill([*prompt, *forced[:-1]], model.cache(1, 64), 0, last=len(forced))
    found = torch.log_softmax(logits, 1).numpy()
    at = np.take_along_axis(found, expected.topk_ids, 1)
    p = np.exp(expected.topk_logprobs)
    divergence = (p * (expected.topk_logprobs - at)).sum(1)
    assert found.argmax(1).tolist()[1:] == forced[1:]
    assert divergence.max() < (0.001 if build == "fp16" else 0.15)
    assert model.shape.weights == 134_515_008


def test_the_settings_of_a_version_are_what_its_file_says() -> None:
    text = json.dumps({"shape": "tiny", "kv": "fp8"})
    assert settle_llama(json.loads(text)).kv_bits == 8
    assert isinstance(load(settle_llama("fp8"), "cpu")._layers[0].qkv, Float8)
