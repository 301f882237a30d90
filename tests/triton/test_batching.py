"""The dynamic batcher's setting in a configuration: pure, over either protocol's form of it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import UsageError
from harness.triton.batching import Batching, check_batches

OVER_GRPC = {"preferred_batch_size": [4, 8], "max_queue_delay_microseconds": "5000"}
OVER_HTTP = {
    "preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 5000, "preserve_ordering": False,
    "priority_levels": 0, "default_priority_level": 0, "priority_queue_policy": {},
}  # fmt: skip


def test_both_protocols_say_the_same() -> None:
    assert Batching.of({"dynamic_batching": OVER_GRPC}) == Batching.of({"dynamic_batching": OVER_HTTP})


def test_none_and_empty_are_not_the_same() -> None:
    assert Batching.of({}) == Batching(None)
    assert Batching.of({"dynamic_batching": {}}) == Batching({}) != Batching(None)
    assert (Batching(None).delay_us, Batching(None).preferred) == (0, ())


def test_a_change_keeps_everything_else() -> None:
    section = {**OVER_GRPC, "default_queue_policy": {"timeout_action": "DELAY"}, "preserve_ordering": True}
    before = Batching.of({"dynamic_batching": section})
    after = before.changed(20_000)
    assert after.section == {
        "default_queue_policy": {"timeout_action": "DELAY"}, "preserve_ordering": True,
        "preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 20_000,
    }  # fmt: skip
    assert after.changed(5_000) == before
    assert before.changed(0, []).section == {
        "default_queue_policy": {"timeout_action": "DELAY"}, "preserve_ordering": True,
    }  # fmt: skip


def test_it_is_said_in_words() -> None:
    assert str(Batching.of({"dynamic_batching": OVER_GRPC})) == "max_queue_delay 5 ms, preferred batch sizes 4, 8"
    assert str(Batching({}).changed(100)) == "max_queue_delay 0.1 ms"
    assert str(Batching(None)) == "no dynamic batching"


@pytest.mark.parametrize(
    ("config", "preferred", "expected"),
    [
        ({"max_batch_size": 0}, None, "forms no batches of it"),
        ({}, None, "max_batch_size is 0"),
        ({"max_batch_size": 8, "sequence_batching": {}}, None, "scheduled by sequence_batching"),
        ({"max_batch_size": 8, "ensemble_scheduling": {}}, None, "scheduled by ensemble_scheduling"),
        ({"max_batch_size": 8}, [8, 16], "preferred batch size 16 is above its max_batch_size, 8"),
    ],
)
def test_what_cannot_be_batched_so_is_refused(
    config: dict[str, Any], preferred: list[int] | None, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        check_batches("m", config, Batching({}).changed(100, preferred))
    check_batches("m", {"max_batch_size": 8}, Batching({}).changed(100, [8]))
