"""From samples to the facts of a window: who was due when, what got done when, and which times count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from harness.recording import SCHEMAS, quantile
from harness.run.operations.windows import window

S = 1_000_000_000


def samples(rows: list[dict[str, Any]]) -> pa.Table:
    blank = {field.name: "" if pa.types.is_string(field.type) else -1 for field in SCHEMAS["samples"]}
    return pa.Table.from_pylist([{**blank, "stage": 0, "status": "ok", **row} for row in rows], SCHEMAS["samples"])


def row(due_s: float, took_s: float = 0.1, **other: Any) -> dict[str, Any]:
    due = round(due_s * S)
    return {
        "due_ns": due,
        "sent_ns": due,
        "first_ns": due + round(took_s * S / 2),
        "done_ns": due + round(took_s * S),
        **other,
    }


def total(found: dict[str, Any], key: str) -> int:
    return sum(block[key] for block in found["blocks"])


def test_requests_belong_to_the_block_in_which_they_were_due_and_work_to_that_in_which_it_ended() -> None:
    table = samples([row(9.95), row(10.0, 1.2), row(10.99), row(12.5, 5.0), row(13.0), row(10.5, stage=1)])
    found = window(table, 0, 10 * S, 3.0, open_loop=True)
    assert [block["due"] for block in found["blocks"]] == [1, 1, 0, 0, 0, 1]
    assert [block["done"] for block in found["blocks"]] == [1, 0, 2, 0, 0, 0], "9.95 ended inside, 12.5 afterwards"
    assert found["begin_s"] == 10.0
    assert [block["seconds"] for block in found["blocks"]] == [0.5] * 6


def test_times_are_within_one_percent_and_count_from_the_due_time() -> None:
    rng = np.random.default_rng(1)
    took = rng.lognormal(-3, 0.5, 500)
    table = samples(
        [row(10 + i / 500 * 4, t, sent_ns=round((10 + i / 500 * 4 + 0.01) * S)) for i, t in enumerate(took)]
    )
    found = window(table, 0, 10 * S, 4.0, open_loop=True)
    for metric, exact in (("response_time", took), ("send_lag", np.full(500, 0.01))):
        bins, counts = ([v for b in found["blocks"] for v in b["times"][metric][side]] for side in (0, 1))
        assert quantile(bins, counts, 0.95) == pytest.approx(np.quantile(exact, 0.95), rel=0.01)
    assert all("send_lag" not in block["times"] for block in window(table, 0, 10 * S, 4.0, open_loop=False)["blocks"])


def test_failures_are_counted_by_class_and_only_time_outs_have_times() -> None:
    table = samples(
        [
            row(10.1), row(10.2, status="error", error="unavailable"), row(10.3, 9.0, status="timeout"),
            row(10.4, status="cancelled"),
        ]
    )  # fmt: skip
    found = window(table, 0, 10 * S, 2.0, open_loop=True)
    assert total(found, "failed") == 2
    assert total(found, "done") == 1
    assert found["errors"] == {"unavailable": 1, "timeout": 1}
    assert found["cancelled"] == {"cancelled": 1}
    assert sum(sum(block["times"].get("response_time", [[], []])[1]) for block in found["blocks"]) == 2


def test_token_times_are_those_of_answers_with_tokens() -> None:
    table = samples([row(10.1, 0.9, osl=10), row(10.2, 0.3, osl=1), row(10.3, 0.3)])
    first = window(table, 0, 10 * S, 2.0, open_loop=False)["blocks"][0]
    assert total(window(table, 0, 10 * S, 2.0, open_loop=False), "tokens") == 11
    assert sum(first["times"]["ttft"][1]) == 2
    assert sum(first["times"]["tpot"][1]) == 1
    assert quantile(*first["times"]["tpot"], 0.5) == pytest.approx(0.05, rel=0.01)


def test_the_lag_is_that_of_every_request_that_left_also_of_those_that_failed() -> None:
    table = samples(
        [
            row(10.1, sent_ns=round(10.2 * S)), row(10.2, status="error", sent_ns=round(10.4 * S)),
            row(10.3, status="refused", sent_ns=-1), row(10.4, status="cancelled", sent_ns=round(10.9 * S)),
        ]
    )  # fmt: skip
    lags = window(table, 0, 10 * S, 1.0, open_loop=True)["blocks"][0]["times"]["send_lag"]
    assert sum(lags[1]) == 2
    assert quantile(*lags, 1.0) == pytest.approx(0.2, rel=0.01)


def test_slots_are_in_use_from_due_to_done_as_far_as_the_window_reaches() -> None:
    table = samples([row(9.0, 2.0), row(10.5, 0.5), row(11.5, 9.0), row(20.0, 1.0), row(10.0, 5.0, stage=1)])
    assert window(table, 0, 10 * S, 2.0, open_loop=False)["held"] == pytest.approx((1.0 + 0.5 + 0.5) / 2)


def test_what_the_generator_said_of_itself_in_the_window() -> None:
    seen = [
        (1.0, "generator", "worker0", "cpu", 0.1), (2.0, "generator", "worker0", "cpu", 0.95),
        (2.5, "generator", "worker1", "stall_max", 0.02), (2.0, "generator", "worker0", "unsent", 3.0),
        (2.0, "generator", "worker0/baseline", "prompt.tokens", 9.0), (3.0, "generator", "worker0", "cpu", 0.9),
        (2.0, "host", "host", "cpu.steal", 0.2), (2.1, "host", "host/cpu0", "cpu.steal", 0.4),
        (2.0, "host", "host", "cpu.utilization", 0.8), (3.1, "generator", "worker0", "cpu", 0.2),
    ]  # fmt: skip
    names = ("source", "device", "metric", "value")
    rows = [{"t_ns": round(t * S), "unit": "1", **dict(zip(names, rest, strict=True))} for t, *rest in seen]
    readings = pa.Table.from_pylist(rows, SCHEMAS["readings"])
    found = window(samples([row(1.5)]), 0, 1 * S, 2.0, open_loop=False, readings=readings)["generator"]
    assert found == {
        "workers": {
            "worker0": {"cpu": [0.95, 0.9], "stall_max": [], "unsent": [3.0]},
            "worker1": {"cpu": [], "stall_max": [0.02], "unsent": []},
        },
        "host_cpu": [0.8],
        "steal": [0.2],
    }
    assert window(samples([row(1.5)]), 0, 1 * S, 2.0, open_loop=False)["generator"]["workers"] == {}
