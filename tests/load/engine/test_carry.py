"""One planned request through the arms, with senders of the test's own."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.load.engine.carry import TOO_MANY, Carrier
from harness.load.engine.dispatch import Route
from harness.load.engine.exchange import Exchange
from harness.load.outcome import Failure, of_os_error
from harness.load.recorder import Recorder
from harness.load.spec import LoadSpec
from harness.load.template import KEY_SIZE, unique_key
from harness.tensors import Tensor, decode
from harness.types import ArmName, PlannedRequest, Prompt, Sample, StagePlan
from tests.load.conftest import SMOLLM2, TINY, make_spec, rows
from tests.load.engine.fake_loop import FakeLoop
from tests.load.test_reply import final, piece, response

PAIRED = StagePlan(0, "paired", "closed", 1.0, 0.5, in_flight=1)
ALONE = StagePlan(2, "split", "closed", 1.0, 0.0, in_flight=2, purpose="alone", together=2)
SPLIT = StagePlan(1, "split", "poisson", 1.0, 0.1, rate=1.0)
REFUSED = Failure("refused", "unavailable", "UNAVAILABLE")
OUT_OF_SOCKETS = of_os_error(OSError(errno.EMFILE, "too many open files"))


class FakeSender:
    """Answers every request with `frames`, or with a failure; keeps what it was sent."""

    def __init__(self, rig: Rig, arm: str, *frames: bytes) -> None:
        self.rig, self.arm, self.frames = rig, arm, frames
        self.failure: Failure | None = None
        self.prepared = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def prepare(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        self.prepared += 1
        return {t.name: t for t in tensors}

    def send(self, template: dict[str, Tensor], request_id: bytes, key: bytes, exchange: Exchange) -> None:
        self.rig.sent.append((self.arm, request_id.decode(), template))
        self.rig.keys.append(key)
        self.meanwhile()
        exchange.sent_ns, exchange.done_ns = 1000, 2000
        exchange.failure = self.failure
        if not self.failure:
            exchange.frames = [(1500, frame) for frame in self.frames]
        self.rig.loop.at(0, exchange.on_done, exchange)

    def connect(self, connections: int, over: Callable[[], None]) -> None: ...

    def expire(self, sent_before_ns: int) -> None: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


class Rig:
    def __init__(self, folder: Path, *frames: bytes, **changes: Any) -> None:
        self.spec: LoadSpec = make_spec(folder, **changes)
        self.loop = FakeLoop()
        self.sent: list[tuple[str, str, dict[str, Tensor]]] = []
        self.keys: list[bytes] = []
        self.route = Route()
        self.recorder = Recorder(folder, worker=0, outputs=self.spec.keeps_outputs, chunks=self.spec.chunks)
        self.samples: list[Sample] = []
        record = self.recorder.sample

        def sample(sample: Sample) -> None:
            self.samples.append(sample)
            record(sample)

        self.recorder.sample = sample  # type: ignore[method-assign]
        self.observed: list[tuple[str, str, float, str]] = []
        self.senders: dict[ArmName, FakeSender] = {
            "baseline": FakeSender(self, "baseline", *frames),
            "candidate": FakeSender(self, "candidate", *frames),
        }
        self.carrier = Carrier(
            self.spec, self.senders, self.recorder, self.route, self.loop,
            lambda *observed: self.observed.append(observed),
        )  # fmt: skip

    def carry(self, stage: StagePlan, pair_id: int, *arms: ArmName, prompt: int = 0) -> bool:
        """Whether everybody refused it."""
        over: list[bool] = []
        self.carrier.carry(stage, PlannedRequest(pair_id, 0, prompt, arms), 900, over.append)
        self.loop.run()
        assert len(over) == 1, "it is over once"
        return over[0]

    def ids(self) -> list[str]:
        """As pair-arm, and pair-arm-score where a request scores."""
        found = []
        for _, request_id, _ in self.sent:
            pair, _, what = request_id.partition("-")
            found.append(f"{int(pair, 16)}-{what[0]}{'-score' if what[1] == '1' else ''}")
        return found

    def outputs(self) -> list[tuple[int, int, str, str]]:
        self.recorder.close()
        return [(o["stage"], o["pair_id"], o["arm"], o["kind"]) for o in rows(self.spec.folder, "outputs")]


def llm(folder: Path, **changes: Any) -> Rig:
    fields = {"model": SMOLLM2, "prompts": (Prompt("a"), Prompt("b")), "logprobs_k": 2, **changes}
    return Rig(folder, piece(b"x", 5), piece(b"y", 6, "stop"), final(), **fields)


def tiny(folder: Path, **changes: Any) -> Rig:
    return Rig(folder, response("2", OUTPUT=("FP32", [16], list(range(16)))).SerializeToString(), **changes)


def test_a_pair_goes_to_both_arms_in_the_planned_order_and_is_recorded_as_the_contract_says(
    tmp_path: Path,
) -> None:
    rig = tiny(tmp_path)
    assert rig.carry(PAIRED, 3, "candidate", "baseline") is False

    rig.recorder.close()
    candidate, baseline = rows(tmp_path)
    assert rig.ids() == ["3-c", "3-b"]
    assert [Sample(**candidate), Sample(**baseline)] == rig.samples
    assert candidate == {
        **{
            "arm": "candidate",
            "stage": 0,
            "pair_id": 3,
            "request_id": f"{3:016x}-c0",
            "unit": "",
            "assignment": "plan",
        },
        **{
            "due_ns": 900,
            "sent_ns": 1000,
            "first_ns": 1500,
            "done_ns": 2000,
            "status": "ok",
            "error": "",
            "code": "",
        },
        **{
            "finish_reason": "",
            "server": "127.0.0.1:1",
            "model": "tiny",
            "version": "2",
            "isl": -1,
            "osl": -1,
        },
        "worker": 0,
    }
    assert (baseline["arm"], baseline["pair_id"]) == ("baseline", 3)


def test_payloads_are_prepared_once(tmp_path: Path) -> None:
    rig = tiny(tmp_path)
    before = rig.senders["baseline"].prepared
    for number in range(5):
        rig.carry(PAIRED, number, "baseline", "candidate")
    assert rig.senders["baseline"].prepared == before == rig.spec.payloads


def test_after_a_pair_both_arms_score_the_words_of_the_baseline(tmp_path: Path) -> None:
    rig = llm(tmp_path)
    rig.senders["candidate"].frames = (piece(b"z", 8, "stop"), final())
    rig.carry(PAIRED, 4, "baseline", "candidate", prompt=1)

    assert rig.ids() == ["4-b", "4-c", "4-b-score", "4-c-score"]
    for _, _, payload in rig.sent[2:]:
        assert decode("INT32", payload["forced_ids"].raw) == [5, 6]
        assert decode("BYTES", payload["text_input"].raw) == [b"b"]
    assert [(s.assignment, s.pair_id) for s in rig.samples] == [("plan", 4)] * 2 + [("score", 4)] * 2
    assert rig.outputs() == [
        (0, 4, "baseline", "generated"),
        (0, 4, "candidate", "generated"),
        (0, 4, "baseline", "scored"),
        (0, 4, "candidate", "scored"),
    ]
    generated = rows(tmp_path, "outputs")[0]
    assert (generated["text"], generated["token_ids"], generated["k"]) == ("xy", [5, 6], 2)
    assert generated["topk_ids"] == [5, 9, 6, 9]
    assert generated["topk_logprobs"] == [-0.5, -1.5, -0.5, -1.5]


def test_a_baseline_beside_itself_gets_as_much_to_do_as_a_pair(tmp_path: Path) -> None:
    rig = llm(tmp_path, cache="unique")
    assert not rig.carry(ALONE, 4, "baseline", "baseline")
    # Each has a number, and so a key, of its own; scoring begins once both are over.
    assert rig.ids() == ["4-b", "5-b", "4-b-score", "5-b-score"]
    assert [(s.arm, s.pair_id, s.assignment, s.due_ns) for s in rig.samples][:2] == [
        ("baseline", 4, "plan", 900),
        ("baseline", 5, "plan", 900),
    ]
    assert [(s.pair_id, s.assignment) for s in rig.samples[2:]] == [(4, "score"), (5, "score")]
    assert len({*rig.keys}) == 2
    assert sorted(rig.outputs()) == [
        (2, 4, "baseline", "generated"),
        (2, 4, "baseline", "scored"),
        (2, 5, "baseline", "generated"),
        (2, 5, "baseline", "scored"),
    ]


def test_a_baseline_beside_itself_that_fails_is_not_scored(tmp_path: Path) -> None:
    rig = llm(tmp_path)
    rig.senders["baseline"].failure = REFUSED
    assert rig.carry(ALONE, 4, "baseline", "baseline"), "both were refused"
    assert rig.ids() == ["4-b", "5-b"]
    assert [s.status for s in rig.samples] == ["refused"] * 2


def test_a_failed_arm_is_not_scored_and_has_no_output(tmp_path: Path) -> None:
    rig = llm(tmp_path)
    rig.senders["candidate"].failure = Failure("error", "model error", "STREAM")
    assert rig.carry(PAIRED, 4, "baseline", "candidate") is False
    assert rig.ids() == ["4-b", "4-c"]
    assert [(s.status, s.error, s.code, s.osl, s.version) for s in rig.samples] == [
        ("ok", "", "", 2, "2"),
        ("error", "model error", "STREAM", 0, ""),
    ]
    assert rig.outputs() == [(0, 4, "baseline", "generated")]


def test_in_a_split_the_candidate_scores_the_reference_of_the_same_prompt(tmp_path: Path) -> None:
    rig = llm(tmp_path)
    rig.carry(PAIRED, 4, "baseline", "candidate", prompt=0)
    rig.carry(PAIRED, 5, "baseline", "candidate", prompt=0)
    rig.sent.clear()

    rig.carry(SPLIT, (1 << 32) + 1, "candidate", prompt=0)
    rig.carry(SPLIT, (1 << 32) + 2, "baseline", prompt=0)
    rig.carry(SPLIT, (1 << 32) + 3, "candidate", prompt=1)

    base = 1 << 32
    # The request that scores carries the reference's pair, as its output does; prompt 1 was never asked before.
    assert rig.ids() == [f"{base + 1}-c", "5-c-score", f"{base + 2}-b", f"{base + 3}-c", "5-c-score"]
    assert [(s.stage, s.pair_id) for s in rig.samples if s.assignment == "score"][-2:] == [(1, 5), (1, 5)]
    assert rig.outputs()[-5:] == [
        (1, base + 1, "candidate", "generated"),
        (1, 5, "candidate", "scored"),
        (1, base + 2, "baseline", "generated"),
        (1, base + 3, "candidate", "generated"),
        (1, 5, "candidate", "scored"),
    ]


def test_a_baseline_that_answers_for_itself_alone_is_no_reference(tmp_path: Path) -> None:
    """In a split the baseline's answers are not scored by it: their floor would be unknown."""
    rig = llm(tmp_path)
    rig.carry(SPLIT, 1, "baseline", prompt=0)
    rig.carry(SPLIT, 2, "candidate", prompt=0)
    assert rig.ids() == ["1-b", "2-c"]


def test_after_a_rollback_the_candidate_gets_nothing_not_even_scoring(tmp_path: Path) -> None:
    rig = llm(tmp_path)
    rig.senders["candidate"].meanwhile = lambda: rig.route.override(0.0)
    rig.carry(PAIRED, 1, "baseline", "candidate")
    rig.carry(PAIRED, 2, "baseline", "candidate")
    rig.carry(SPLIT, 3, "candidate")
    assert rig.ids() == ["1-b", "1-c", "1-b-score", "2-b", "3-b"]


def test_without_comparison_nothing_is_scored_or_kept(tmp_path: Path) -> None:
    rig = llm(tmp_path, logprobs_k=0)
    rig.carry(PAIRED, 1, "baseline", "candidate")
    rig.recorder.close()
    assert rig.ids() == ["1-b", "1-c"]
    assert not (tmp_path / "outputs-0.arrow").exists()


def test_an_empty_answer_is_an_error_and_is_not_scored(tmp_path: Path) -> None:
    rig = llm(tmp_path)
    rig.senders["baseline"].frames = (final(),)
    rig.carry(PAIRED, 1, "baseline", "candidate")
    assert rig.ids() == ["1-b", "1-c"]
    assert (rig.samples[0].status, rig.samples[0].error, rig.samples[0].osl) == ("error", "empty", 0)


@pytest.mark.parametrize(
    ("one", "other", "all_refused"),
    [
        (REFUSED, REFUSED, True),
        (REFUSED, None, False),
        (OUT_OF_SOCKETS, OUT_OF_SOCKETS, True),
        (OUT_OF_SOCKETS, REFUSED, True),
    ],
)
def test_refusals_are_told(tmp_path: Path, one: Failure | None, other: Failure | None, all_refused: bool) -> None:
    rig = tiny(tmp_path)
    rig.senders["baseline"].failure, rig.senders["candidate"].failure = one, other
    assert rig.carry(PAIRED, 1, "baseline", "candidate") is all_refused


def test_chunks_and_digests_are_kept_where_wanted(tmp_path: Path) -> None:
    rig = llm(tmp_path, chunks=True)
    rig.carry(PAIRED, 1, "baseline")
    rig.recorder.close()
    assert rows(tmp_path, "chunks") == [{"pair_id": 1, "arm": "baseline", "t_ns": 1500}] * 2

    other = tmp_path / "tiny"
    other.mkdir()
    rig = tiny(other, model=TINY, compare_outputs=True)
    rig.carry(PAIRED, 1, "baseline", "candidate")
    rig.recorder.close()
    digests = [o["digest"] for o in rows(other, "outputs")]
    assert len(set(digests)) == 1
    assert len(digests[0]) == 64


def test_unique_prompts_get_a_key_of_the_pair_the_same_for_both_arms(tmp_path: Path) -> None:
    rig = llm(tmp_path, cache="unique", logprobs_k=0)
    rig.carry(PAIRED, 7, "baseline", "candidate")
    rig.carry(PAIRED, 8, "baseline", "candidate")
    seven, eight = (unique_key(rig.spec.nonce, number).encode() for number in (7, 8))
    assert rig.keys == [seven] * 2 + [eight] * 2


def test_another_run_has_other_keys_of_the_same_length() -> None:
    """A server that is still up from the last run has its prompts in its cache."""
    pairs = [*range(1000), *(stage << 32 | number for stage in (1, 2) for number in range(1000))]
    keys = [[unique_key(nonce, pair) for pair in pairs] for nonce in ("one", "other")]
    assert keys[0] == [unique_key("one", pair) for pair in pairs]
    assert len({key for run in keys for key in run}) == 2 * len(pairs)
    assert {len(key.encode()) for run in keys for key in run} == {KEY_SIZE}
    # From the first characters on: a cache looks at prefixes.
    assert len({key[:4] for key in keys[0]}) > 2500


def test_warming_asks_every_payload_once_and_records_nothing(tmp_path: Path) -> None:
    rig = llm(tmp_path, cache="warm")
    over: list[str] = []
    rig.carrier.warm(lambda: over.append("over"))
    rig.loop.run()
    assert over == ["over"]
    texts = sorted((arm, decode("BYTES", template["text_input"].raw)[0]) for arm, _, template in rig.sent)
    assert texts == [("baseline", b"a"), ("baseline", b"b"), ("candidate", b"a"), ("candidate", b"b")]
    assert rig.samples == []


def test_answers_are_read_when_there_is_time_and_before_they_are_too_many(tmp_path: Path) -> None:
    rig = llm(tmp_path, logprobs_k=0)
    for number in range(TOO_MANY + 10):
        rig.carrier.carry(PAIRED, PlannedRequest(number, 0, 0, ("baseline",)), 900, lambda _: None)
    # Everything lands in one turn, with no idle moment between.
    timers = rig.loop._timers[:]
    rig.loop._timers.clear()
    for _, _, timer in sorted(timers, key=lambda t: t[1]):
        assert timer.call
        timer.call(*timer.args)
    assert rig.carrier.backlog == TOO_MANY
    assert len(rig.samples) == 10
    rig.carrier.drain()
    assert [s.pair_id for s in rig.samples] == list(range(TOO_MANY + 10))
    assert len(rig.observed) == TOO_MANY + 10
