"""The language model in batches: what a build can be told, answers in batches, and what the keys and values cost."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.embedded.faults import BadRequest
from harness.embedded.runtime import weights_file
from harness.embedded.smollm2.engine import Engine
from harness.embedded.smollm2.settings import BUILDS, LAYERS, BatchedSettings, settle_batched
from harness.embedded.smollm2.transformer import Cache
from harness.errors import UsageError

QUESTIONS = ["What is the capital of France?", "Why?", "Name a colour, a number and a fruit, in that order, please."]


def test_what_is_not_said_is_the_reference_without_a_limit() -> None:
    assert settle_batched("fp16") == settle_batched({}) == BatchedSettings("fp16", "fp32", LAYERS, 0)
    assert settle_batched("kv16").kv_bits == 16
    assert settle_batched({"kv": "fp32", "memory": "740MiB", "layers": 10}) == BatchedSettings(
        kv="fp32", layers=10, memory=740 * 2**20
    )
    assert settle_batched("fp8").weights == "fp8"
    before = {name: dict(build) for name, build in BUILDS.items()}
    settle_batched({"memory": "1GiB"})
    assert before == BUILDS


@pytest.mark.parametrize(
    ("build", "said"),
    [
        ({"kv": "int8"}, "'kv' of smollm2_batched is one of fp32, fp16, not 'int8'"),
        ({"weights": "fp32"}, "'weights' of smollm2_batched is one of fp16, fp8"),
        ({"layers": 0}, "'layers' of smollm2_batched is a whole number from 1 to 30, not 0"),
        ({"layers": 31}, "from 1 to 30"),
        ({"layers": True}, "from 1 to 30"),
        ({"memory": "lots"}, "'memory' of smollm2_batched is a size such as 900MiB, not 'lots'"),
        ({"memory": None}, "is a size such as 900MiB"),
        ({"kv_bits": 8}, "unknown setting 'kv_bits' of smollm2_batched: known are kv, layers, memory, weights"),
    ],
)
def test_what_cannot_be_is_named(build: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        settle_batched(build)


@pytest.mark.parametrize("kept", [np.float32, np.float16])
def test_a_cache_is_as_large_as_its_context_and_kept_as_it_was_told(kept: type) -> None:
    cache = Cache(layers=2, kv_heads=3, head=64, capacity=100, kept=np.dtype(kept))
    assert cache.keys.nbytes + cache.values.nbytes == 2 * 2 * 3 * 64 * 100 * np.dtype(kept).itemsize
    cache.keys[0, :, :, :5] = 0.1
    keys, values = cache.filled(0, 5)
    assert (keys.dtype, keys.shape, values.shape) == (np.float32, (3, 64, 5), (3, 5, 64))
    assert keys[0, 0, 0] == np.float32(kept(0.1)), "no more of it than was kept"


@cache
def engine(kv: str = "fp32") -> Engine:
    """One of its thirty layers: it answers nonsense, always the same."""
    file = weights_file()
    assert file is not None
    return Engine(Path(file), "fp16", layers=1, kv=kv)


@pytest.mark.weights
def test_a_batch_is_answered_as_each_of_it_alone() -> None:
    limits = [3, 1, 5]
    together = engine().answers(QUESTIONS, limits)
    assert together == [engine().answers([text], [most])[0] for text, most in zip(QUESTIONS, limits, strict=True)]
    alone = [list(engine().generate(text, most)) for text, most in zip(QUESTIONS, limits, strict=True)]
    assert [answer.text for answer in together] == ["".join(step.text for step in steps) for steps in alone]
    assert [answer.input_tokens for answer in together] == [steps[0].input_tokens for steps in alone]
    assert all(1 <= answer.output_tokens <= most for answer, most in zip(together, limits, strict=True))


@pytest.mark.weights
def test_the_caches_of_a_whole_batch_are_there_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what does not fit fails at once and as a whole; and in half the memory as float16."""
    made: list[int] = []
    for kv in ("fp32", "fp16"):
        model, sizes = engine(kv)._model, list[int]()
        make = type(model).cache

        def counting(self: Any, *told: Any, make: Any = make, sizes: list[int] = sizes) -> Cache:
            found: Cache = make(self, *told)
            sizes.append(found.keys.nbytes + found.values.nbytes)
            return found

        def forward(*_: Any, sizes: list[int] = sizes) -> Any:
            assert len(sizes) == 3
            raise MemoryError("Unable to allocate")

        with monkeypatch.context() as patch:
            patch.setattr(type(model), "cache", counting)
            patch.setattr(type(model), "forward", forward)
            with pytest.raises(MemoryError):
                engine(kv).answers(QUESTIONS, [2, 2, 2])
        made.append(sum(sizes))
    assert made[0] == 2 * made[1]
    assert engine().answers(["Why?"], [1]), "nothing of the batch that failed is left"


@pytest.mark.weights
def test_half_precision_keeps_the_answer_close() -> None:
    full, half = (
        engine(kv)._model.forward(np.arange(40, dtype=np.int32), engine(kv)._model.cache(40, kept))
        for kv, kept in (("fp32", np.float32), ("fp16", np.float16))
    )
    assert 0 < np.abs(full - half).max() < 0.05 * np.abs(full).max()


@pytest.mark.weights
@pytest.mark.parametrize(
    ("texts", "limits", "said"),
    [
        (["Why?", " "], [2, 2], "text_input is empty"),
        (["Why?"], [0], "max_tokens must be at least 1, not 0"),
        (["Why?"], [8192], "exceed the context of 8192 tokens"),
    ],
)
def test_one_wrong_row_is_named_before_anything_is_allocated(texts: list[str], limits: list[int], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        engine().answers(texts, limits)
