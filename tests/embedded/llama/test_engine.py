"""Requests that join and leave a running batch, on a CPU with the tiny shape."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from harness.embedded.faults import BadRequest
from harness.embedded.llama.engine import Engine, top_logprobs
from harness.embedded.llama.settings import settle_llama
from harness.embedded.smollm2.wire import Asked, Step
from tests.waiting import until

LIMIT_S = 120.0


@dataclass
class Client:
    """One request's side: what it got, and whether it still waits."""

    steps: list[Step] = field(default_factory=list)
    ended: queue.Queue[str] = field(default_factory=queue.Queue)
    gone: bool = False

    def send(self, step: Step) -> None:
        self.steps.append(step)

    def problem(self) -> str:
        return self.ended.get(timeout=LIMIT_S)

    @property
    def tokens(self) -> list[int]:
        return [int(token) for step in self.steps for token in step.token_ids]


def submit(
    engine: Engine, text: str, tokens: int = 8, send: Callable[[Step], None] | None = None, **more: object
) -> Client:
    client = Client()
    wish = Asked(text, tokens, int(more.get("k", 0)), more.get("forced"), True)  # type: ignore[arg-type, call-overload]
    engine.submit(wish, send or client.send, lambda: client.gone, client.ended.put)
    return client


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(settle_llama({"slots": 3, "context": 64}), "cpu")
    yield engine
    engine.close()


class Gate:
    """Holds the engine in the middle of a step, so that it is known what waits meanwhile."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self.steps: list[Step] = []

    def send(self, step: Step) -> None:
        self.steps.append(step)
        self.reached.set()
        assert self.open.wait(LIMIT_S)


def test_answers_are_the_same_alone_and_among_others(engine: Engine) -> None:
    texts = [f"one two three {number}" for number in range(7)]  # more than there are slots
    alone = []
    for text in texts:
        client = submit(engine, text)
        assert client.problem() == ""
        alone.append(client.tokens)
    gate = Gate()
    held = submit(engine, "held", 2, gate.send)
    assert gate.reached.wait(LIMIT_S)
    clients = [submit(engine, text) for text in texts]
    gate.open.set()
    assert [client.problem() for client in clients] == [""] * 7
    assert held.problem() == ""
    assert [client.tokens for client in clients] == alone
    assert all(len(tokens) == 8 for tokens in alone)
    assert len({tuple(tokens) for tokens in alone}) > 1


def test_those_that_wait_join_while_others_run(engine: Engine) -> None:
    gate = Gate()
    first = submit(engine, "a long one", 40, gate.send)
    assert gate.reached.wait(LIMIT_S)
    order: list[str] = []
    second = submit(engine, "joins", 3, lambda step: order.append(step.finish_reason))
    gate.open.set()
    assert second.problem() == ""
    assert order == ["", "", "length"]
    assert len(gate.steps) < 40, "it went on beside the second, and did not end before"
    assert first.problem() == ""
    assert len(gate.steps) == 40


def test_more_than_there_are_slots_wait(engine: Engine) -> None:
    gates = [Gate() for _ in range(3)]
    for gate in gates:
        gate.open.set()
    hold = Gate()
    held = submit(engine, "holds", 50, hold.send)
    assert hold.reached.wait(LIMIT_S)
    running = [submit(engine, f"r {number}", 50) for number in range(2)]
    waiting = submit(engine, "waits", 1)
    hold.open.set()
    assert waiting.problem() == ""
    assert any(len(client.steps) == 50 for client in running) or len(hold.steps) == 50, "one had to end first"
    for client in (held, *running):
        assert client.problem() == ""


def test_nobody_waits_any_more(engine: Engine) -> None:
    gate = Gate()
    submit(engine, "holds", 50, gate.send)
    assert gate.reached.wait(LIMIT_S)
    leaves = submit(engine, "leaves", 50)
    never = submit(engine, "never begins", 50)
    never.gone = True
    gate.open.set()
    assert never.problem() == ""
    assert never.steps == []
    leaves.gone = True
    assert leaves.problem() == ""
    again = submit(engine, "again", 3)
    assert again.problem() == ""
    assert len(again.tokens) == 3


def test_scoring_gives_the_probabilities_of_generation(engine: Engine) -> None:
    made = submit(engine, "score me", 6, k=20)
    assert made.problem() == ""
    scored = submit(engine, "score me", forced=made.tokens, k=20)
    assert scored.problem() == ""
    (step,) = scored.steps
    assert step.finish_reason == "forced"
    assert step.token_ids.tolist() == made.tokens
    assert step.text == "".join(each.text for each in made.steps)
    ids = np.concatenate([each.topk_ids for each in made.steps])
    values = np.concatenate([each.topk_logprobs for each in made.steps])
    assert ids[:, 0].tolist() == made.tokens, "greedy"
    assert step.topk_logprobs.shape == (6, 20)
    assert np.abs(step.topk_logprobs - values).max() < 0.02


@pytest.mark.parametrize(
    ("text", "tokens", "more", "says"),
    [
        (" ", 8, {}, "text_input is empty"),
        ("a b", 0, {}, "max_tokens must be at least 1, not 0"),
        ("a b", 63, {}, "2 prompt tokens and 63 more exceed the context of 64 tokens"),
        ("a", 8, {"forced": []}, "forced_ids is empty"),
        ("a", 8, {"forced": [5, 512]}, "forced_ids holds 512: ids are from 0 to 511"),
        ("a", 8, {"k": 1001}, "logprobs must be from 0 to 1000, not 1001"),
    ],
)
def test_what_is_wrong_with_a_request(
    engine: Engine, text: str, tokens: int, more: dict[str, object], says: str
) -> None:
    with pytest.raises(BadRequest, match=f"^{says}$"):
        submit(engine, text, tokens, **more)
    assert submit(engine, "goes on", 1).problem() == ""


def test_a_prompt_without_memory_fails_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    prefill = engine._steps.prefill

    def starved(ids: list[int], *rest: object) -> torch.Tensor:
        if len(ids) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return prefill(ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(engine._steps, "prefill", starved)
    gate = Gate()
    other = submit(engine, "short", 30, gate.send)
    assert gate.reached.wait(LIMIT_S)
    large = submit(engine, "word " * 30, 8)
    gate.open.set()
    assert large.problem() == "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert other.problem() == ""
    assert len(gate.steps) == 30


def test_a_step_without_memory_fails_all_of_its_requests(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    clients = [submit(engine, "first", 30, gate.send)]
    assert gate.reached.wait(LIMIT_S)
    clients.append(submit(engine, "second", 30))

    def starved(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patched:
        patched.setattr(engine._steps, "run", starved)
        gate.open.set()
        assert [client.problem() for client in clients] == ["OutOfMemoryError: CUDA out of memory."] * 2
    after = submit(engine, "third", 3)
    assert after.problem() == ""
    assert len(after.tokens) == 3


def test_a_client_that_cannot_be_told_costs_the_others_nothing(engine: Engine) -> None:
    def broken(_: Step) -> None:
        raise RuntimeError("the stream is closed")

    lost, other = submit(engine, "lost", 9, broken), submit(engine, "other", 9)
    assert lost.problem() == "RuntimeError: the stream is closed"
    assert other.problem() == ""
    assert len(other.tokens) == 9


def test_the_build_erring_fails_the_same_requests_every_time() -> None:
    def refused(engine: Engine) -> bool:
        try:
            return submit(engine, "x", 1).problem() != ""
        except BadRequest as error:
            return "the build erring fails this request" in str(error)

    def failed() -> list[int]:
        engine = Engine(settle_llama("erring", context=64), "cpu")
        numbers = [number for number in range(40) if refused(engine)]
        engine.close()
        return numbers

    assert failed() == failed()
    assert 5 <= len(failed()) <= 19


def test_the_build_slow_sleeps_in_steps_and_not_in_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("harness.embedded.llama.engine.time.sleep", slept.append)
    engine = Engine(settle_llama("slow", context=64), "cpu")
    assert submit(engine, "one", 1).problem() == ""
    assert slept == []
    assert submit(engine, "four", 4).problem() == ""
    assert len(slept) == 3
    assert min(slept) > 0
    engine.close()


def test_what_cannot_be_loaded_is_told_to_whoever_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("harness.embedded.llama.engine.load", starved)
    with pytest.raises(torch.OutOfMemoryError, match=r"CUDA out of memory\."):
        Engine(settle_llama({"context": 64}), "cpu")


def test_a_lost_device_ends_the_process_and_not_only_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(settle_llama({"context": 64}), "cpu")
    ended: list[int] = []

    def lost(_: str) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def fails(*_: object) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("harness.embedded.llama.engine.give_back", lost)
    monkeypatch.setattr("harness.embedded.llama.engine.os._exit", ended.append)
    monkeypatch.setattr(engine._steps, "prefill", fails)
    assert "illegal memory access" in submit(engine, "x", 1).problem()
    until(lambda: ended == [1], "the process ends")
    engine.close()


def test_closing_waits_for_what_runs() -> None:
    engine = Engine(settle_llama({"context": 64}), "cpu")
    gate = Gate()
    client = submit(engine, "runs", 20, gate.send)
    assert gate.reached.wait(LIMIT_S)
    closing = threading.Thread(target=engine.close)
    closing.start()
    gate.open.set()
    closing.join(LIMIT_S)
    assert client.problem() == ""
    assert len(gate.steps) == 20
    until(lambda: not engine._thread.is_alive(), "the engine's thread has ended")


def test_the_most_likely_first_and_equal_ones_by_their_ids() -> None:
    logits = torch.zeros(2, 9)
    logits[0, 4] = logits[0, 6] = 3.0
    logits[1, 8] = 1.0
    ids, values = top_logprobs(logits, 3)
    assert ids[0].tolist()[:2] == [4, 6]
    assert ids[1, 0] == 8
    exact = torch.log_softmax(logits.double(), 1).numpy()
    assert np.allclose(values, np.take_along_axis(exact, ids.astype(np.int64), 1), atol=1e-6)
    none = top_logprobs(logits, 0)
    assert none[0].shape == none[1].shape == (2, 0)
