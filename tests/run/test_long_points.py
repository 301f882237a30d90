"""One question of long-context: what became of it, how long it really was, and what does not wait for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.errors import CanaryError, Unreachable
from harness.run.operations.course import Place
from harness.run.operations.long_context import MeasuredArm
from harness.run.operations.long_points import Asker
from harness.run.operations.long_prompts import Lengths
from harness.run.operations.long_watch import Readings, Watched
from harness.run.signals import Interrupted, interruptible
from harness.scenario import LongContext, load
from harness.tensors import Tensor, decode, encode
from harness.triton import Answer, Refused
from harness.types import ModelInfo, TensorSpec
from tests.run.test_long_watch import table

FILE = """\
kind: long-context
name: long
target: {url: "grpc://triton:8001", repository: models}
candidate: {model: llm, version: 2}
goal: {context: 8192, batch: 4}
contexts: [1024, 2048, 4096, 6144]
batches: [1, 2, 4]
max_tokens: 32
"""
Says = Callable[[Sequence[Tensor]], Answer]


class Server:
    """A Control, and the Place that hands it out."""

    def __init__(self, says: Says) -> None:
        self._says = says
        self.asked: list[list[str]] = []
        self.server, self.control = None, self

    def again(self) -> Server:
        return self

    def close(self) -> None:
        pass

    def check(self) -> None:
        pass

    def infer(self, _: str, __: int, tensors: Sequence[Tensor], ___: float) -> Answer:
        texts = decode("BYTES", tensors[0].raw)
        self.asked.append([bytes(text).decode() for text in texts])
        return self._says(tensors)


def numbers(name: str, *values: int) -> Tensor:
    return Tensor(name, "INT32", (len(values), 1), encode("INT32", values))


def asker(folder: Path, says: Says, *, max_batch: int = 4, decoupled: bool = False) -> tuple[Asker, Server]:
    (folder / "long.yaml").write_text(FILE)
    scenario = load(folder / "long.yaml")
    assert isinstance(scenario, LongContext)
    inputs = (TensorSpec("text_input", "BYTES", (1,)), TensorSpec("max_tokens", "INT32", (1,)))
    info = ModelInfo("llm", "python", (2,), inputs, (), max_batch, decoupled)
    readings = SimpleNamespace(now_ns=lambda: 0, between=lambda *_: table(), every_s=0.05)
    server = Server(says)
    found = Asker(cast(Place, server), scenario, scenario.candidate, info, cast(Readings, readings))
    found._lengths = Lengths(0.0, 1.0, counted=True)
    return found, server


def failing(error: CanaryError) -> Says:
    def says(tensors: Sequence[Tensor]) -> Answer:
        if decode("BYTES", tensors[0].raw)[0] == b"short":
            return Answer(2, ())
        raise error

    return says


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Refused("grpc://triton:8001: not finished after 600 s", unfinished=True), "time-out"),
        (Refused("failed to process the request: CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (Refused("Socket closed", unfinished=True), "server died"),
        (Unreachable("grpc://triton:8001: nobody answers there (Connection refused)"), "server died"),
        (Refused("8203 prompt tokens and 32 more exceed the context of 8192 tokens"), "too long"),
        (Refused("The decoder prompt (length 9011) is longer than the maximum model length of 8192."), "too long"),
        (Refused("Prompt length (9011) exceeds maximum input length (8192)."), "too long"),
        (Refused("something else"), "other"),
    ],
)
def test_what_became_of_it(tmp_path: Path, error: CanaryError, outcome: str) -> None:
    found, _ = asker(tmp_path, failing(error))
    point = found.point("ramp", 4096, 1)
    assert (point["outcome"], point["error"]) == (outcome, str(error))
    assert point["recovered_s"] is not None


def test_an_oom_counts_though_another_request_failed_otherwise_before(tmp_path: Path) -> None:
    def says(tensors: Sequence[Tensor]) -> Answer:
        text = decode("BYTES", tensors[0].raw)[0]
        if text == b"short":
            return Answer(2, ())
        first = text.decode() == server.asked[0][0]
        raise Refused("Request timeout expired" if first else "CUDA out of memory")

    found, server = asker(tmp_path, says, max_batch=0)
    assert found.point("ramp", 4096, 4)["outcome"] == "out of memory"


def test_what_is_more_than_a_batch_goes_as_several_and_an_oom_of_one_is_that_of_all(tmp_path: Path) -> None:
    calls: list[int] = []

    def says(tensors: Sequence[Tensor]) -> Answer:
        calls.append(1)
        if len(calls) == 2:
            raise Refused("CUDA out of memory")
        if len(calls) == 3:
            raise Refused("not finished after 600 s", unfinished=True)
        return Answer(2, (numbers("input_tokens", 1000),))

    found, server = asker(tmp_path, says, max_batch=0)
    assert found.point("ladder", 1024, 3)["outcome"] == "out of memory"
    assert [len(texts) for texts in server.asked[:3]] == [1, 1, 1]
    assert found.sent == len(server.asked)


@pytest.mark.parametrize(
    ("told", "decoupled", "tokens"),
    [
        ([("input_tokens", (1000, 1001)), ("output_tokens", (24, 24))], False, 1024),
        ([("num_input_tokens", (1000, 1000)), ("num_output_tokens", (3, 24))], False, 1003),
        ([("input_tokens", (500, 1000))], False, 501),
        ([("input_tokens", (1000,) * 3), ("output_tokens", (1, 1, 1))], True, 1003),
        ([("input_tokens", (1000,) * 3), ("output_tokens", (24, 25, 26))], True, 1026),
        ([], False, 1024),
    ],
)
def test_how_long_it_really_was(tmp_path: Path, told: Any, decoupled: bool, tokens: int) -> None:
    """The shortest sequence, prompt and answer; what the server does not tell is taken as it was meant."""
    outputs = tuple(numbers(name, *values) for name, values in told)
    found, _ = asker(tmp_path, lambda _: Answer(2, outputs), decoupled=decoupled)
    assert found.point("ladder", 1024, 1 if decoupled else 2)["tokens"] == tokens


def test_a_long_prompt_tells_better_how_long_a_word_is(tmp_path: Path) -> None:
    """A word is a token by the two short questions; by this one it is 1.05."""

    def says(tensors: Sequence[Tensor]) -> Answer:
        words = len(bytes(decode("BYTES", tensors[0].raw)[0]).split())
        return Answer(2, (numbers("input_tokens", round(1.05 * words)), numbers("output_tokens", 32)))

    found, _ = asker(tmp_path, says)
    assert found.point("ladder", 4096, 1)["tokens"] == pytest.approx(4096 * 1.05, rel=0.01)
    assert found.point("ramp", 8192, 1)["tokens"] == pytest.approx(8192, abs=2)


def test_a_context_has_room_for_a_word_or_is_not_asked(tmp_path: Path) -> None:
    found, _ = asker(tmp_path, lambda _: Answer(2, ()))
    found._lengths = Lengths(30.0, 1.0, counted=True)
    assert not found.holds(32 + 30)
    assert found.holds(32 + 30 + 1)


def test_a_prompt_that_was_cut_tells_nothing_of_words() -> None:
    lengths = Lengths(10.0, 1.0, counted=True)
    assert lengths.corrected(8192, 2048) == lengths
    assert lengths.corrected(100, 90) == lengths, "no more than the questions told"
    assert Lengths().corrected(8192, 9000) == Lengths()


def test_who_interrupts_does_not_wait_for_the_answer(tmp_path: Path) -> None:
    ended, answered = threading.Event(), threading.Event()

    def says(_: Sequence[Tensor]) -> Answer:
        os.kill(os.getpid(), signal.SIGINT)
        ended.wait(120)
        answered.set()
        return Answer(2, ())

    found, _ = asker(tmp_path, says)
    try:
        with interruptible(), pytest.raises(Interrupted):
            found.point("ladder", 1024, 1)
        assert not answered.is_set()
    finally:
        ended.set()


@pytest.mark.parametrize(("source", "counts"), [("nvml", True), ("dcgm", False), ("triton", False)])
def test_what_is_shorter_than_a_page_is_old_has_no_peak(tmp_path: Path, source: str, counts: bool) -> None:
    """The page may show what was needed before: that would be too little, and a goal would pass by it."""
    found, _ = asker(tmp_path, lambda _: Answer(2, (numbers("input_tokens", 224),)))
    capacity = {"gpu0": 80 * 2.0**30}
    found.watched = Watched("GPU memory", "", source, "gpu.memory.used", capacity)
    rows = table((source, "gpu0", "gpu.memory.used", 20 * 2.0**30))
    cast(Any, found._readings).between = lambda *_: rows
    point = found.point("ladder", 256, 1)
    assert point["peak"] == ({"gpu0": 20 * 2.0**30} if counts else {})
    assert point.get("unseen", False) is not counts


@pytest.mark.parametrize("steps", [(), (("tokenizer", 1), ("engine", 1))], ids=["alone", "in an ensemble"])
def test_an_engine_of_whose_cache_nobody_tells_is_not_judged_by_flat_memory(tmp_path: Path, steps: Any) -> None:
    (tmp_path / "long.yaml").write_text(FILE)
    scenario = load(tmp_path / "long.yaml")
    assert isinstance(scenario, LongContext)
    configs = {"vllm": {"backend": "vllm"}, "python": {"backend": "python", "parameters": {}}}
    watched = Watched("GPU memory", "", "nvml", "gpu.memory.used", {"gpu0": 80 * 2.0**30})
    for backend, config in configs.items():
        control = SimpleNamespace(
            url="grpc://triton:8001",
            config=lambda *_, config=config: config,
            loaded=lambda _: (2,),
            steps=lambda *_: (),
        )
        notes: list[str] = []
        course = SimpleNamespace(facts={"arms": {}, "notes": notes}, say=lambda _: None)
        place = SimpleNamespace(control=control, server=None)
        measured = MeasuredArm(
            cast(Any, course),
            scenario,
            cast(Place, place),
            "candidate",
            scenario.candidate,
            ("llm",),
            cast(Readings, None),
        )
        assert measured._told(watched) is (None if backend == "vllm" else watched)
        assert any("no page tells of its KV cache" in note for note in notes) is (backend == "vllm")
        assert bool(notes) is (backend == "vllm")
