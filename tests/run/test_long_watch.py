"""What long-context watches of a version, and what its readings say of an engine that takes its memory at the load."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from harness.recording import StreamWriter, stream_path
from harness.recording.schema import READINGS
from harness.run.operations.long_points import crowded
from harness.run.operations.long_watch import Readings, choose, grown, highest, of_devices, polls

GIB = 2.0**30
INSTANCE = "llm/2"


def table(*rows: tuple[str, str, str, float], times: Iterable[int] = (1, 2)) -> pa.Table:
    """(source, device, metric, value) at each of `times`."""
    every = [
        {"t_ns": t, "source": source, "device": device, "metric": metric, "value": value, "unit": ""}
        for t in times
        for source, device, metric, value in rows
    ]
    return pa.Table.from_pylist(every, schema=READINGS)


def gpu(number: int, used: float, total: float = 80 * GIB, source: str = "nvml") -> list[tuple[str, str, str, float]]:
    device = f"gpu{number}"
    return [(source, device, "gpu.memory.used", used), (source, device, "gpu.memory.total", total)]


PREEMPTED = ("vllm", "llm/1", "requests.preempted", 3.0)
PROCESS = (("process", INSTANCE, "memory.rss", 1.0 * GIB),)


def test_the_gpus_on_which_it_lies_and_no_other() -> None:
    before = table(*gpu(0, 1 * GIB), *gpu(1, 70 * GIB), *gpu(2, 1 * GIB))
    loaded = table(*gpu(0, 17 * GIB), *gpu(1, 70 * GIB), *gpu(2, 17 * GIB), *PROCESS)
    found = choose(before, loaded, INSTANCE)
    assert found is not None
    assert (found.source, found.metric) == ("nvml", "gpu.memory.used")
    assert found.capacity == {"gpu0": 80 * GIB, "gpu2": 80 * GIB}


def test_what_the_driver_keeps_for_itself_is_not_for_use() -> None:
    reserved = ("nvml", "gpu0", "gpu.memory.reserved", 2 * GIB)
    found = choose(table(*gpu(0, GIB)), table(*gpu(0, 9 * GIB), reserved), INSTANCE)
    assert found is not None
    assert found.capacity == {"gpu0": 78 * GIB}


def test_all_gpus_where_it_cannot_be_told_on_which_it_lies() -> None:
    found = choose(table(), table(*gpu(0, GIB, source="dcgm"), *gpu(1, GIB, source="dcgm")), INSTANCE)
    assert found is not None
    assert (found.source, set(found.capacity)) == ("dcgm", {"gpu0", "gpu1"})


@pytest.mark.parametrize("source", ["vllm", "trtllm"])
def test_an_engine_with_a_cache_of_its_own_is_watched_there(source: str) -> None:
    usage = (source, "llm/1", "kv_cache.usage", 0.1)
    found = choose(table(*gpu(0, GIB)), table(*gpu(0, 70 * GIB), usage), INSTANCE)
    assert found is not None
    assert found.preallocated
    assert (found.source, found.capacity) == (source, {"llm/1": 1.0})


def test_an_engine_of_another_model_on_the_same_page_is_not_its_cache() -> None:
    chat, own = ("vllm", "chat/1", "kv_cache.usage", 0.4), ("vllm", INSTANCE, "kv_cache.usage", 0.1)
    before = table(*gpu(0, 30 * GIB), chat)
    found = choose(before, table(*gpu(0, 50 * GIB), chat), INSTANCE)
    assert found is not None
    assert (found.metric, found.preallocated) == ("gpu.memory.used", False)
    found = choose(before, table(*gpu(0, 70 * GIB), chat, own), INSTANCE)
    assert found is not None
    assert found.capacity == {INSTANCE: 1.0}
    busy = table(("vllm", "chat/1", "requests.preempted", 3.0), own)
    assert set(of_devices(busy, found.capacity)["device"].to_pylist()) == {INSTANCE}


def test_what_others_hold_of_its_gpus_is_known() -> None:
    found = choose(
        table(*gpu(0, 30 * GIB), *gpu(1, GIB)), table(*gpu(0, 50 * GIB), *gpu(1, GIB), *PROCESS), INSTANCE
    )  # fmt: skip
    assert found is not None
    assert found.others == {"gpu0": 30 * GIB}
    assert found.facts()["others"] == {"gpu0": 30 * GIB}


def test_only_what_was_read_of_it_counts_as_a_poll() -> None:
    readings = pa.concat_tables([table(*gpu(0, 1.0), times=(1, 2)), table(*PROCESS, times=(1, 2, 3, 4))])
    assert polls(readings, "nvml", "gpu.memory.used") == 2


def test_old_readings_are_let_go_and_no_window_misses_one(tmp_path: Path) -> None:
    clock = Readings(tmp_path, 0, 0.01)
    with StreamWriter(stream_path(tmp_path, "readings"), READINGS) as stream:
        seen = []
        for window in range(3):
            begin, end = 1000 * window, 1000 * window + 900
            stream.write(table(*PROCESS, times=(*range(begin, end, 100), end + 50)).combine_chunks().to_batches()[0])
            seen.append(clock.between(begin, end).num_rows)
            assert sum(piece.num_rows for piece in clock._recent) <= 20
    clock.close()
    assert seen == [9, 9, 9]


def test_without_a_gpu_the_limit_of_the_instance_else_that_of_the_machine() -> None:
    limited = table(
        *PROCESS, ("process", INSTANCE, "memory.limit", 2 * GIB), ("process", "other/1", "memory.limit", GIB)
    )
    found = choose(table(), limited, INSTANCE)
    assert found is not None
    assert (found.metric, found.capacity) == ("memory.data", {INSTANCE: 2 * GIB})
    found = choose(table(), table(*PROCESS), INSTANCE)
    assert found is not None
    assert found.metric == "memory.rss"
    assert found.capacity == {INSTANCE: float(psutil.virtual_memory().total)}
    assert choose(table(), table(("process", "server", "memory.rss", GIB)), INSTANCE) is None


def kv(usage: float, *more: tuple[str, str, str, float]) -> list[tuple[str, str, str, float]]:
    return [("vllm", "llm/1", "kv_cache.usage", usage), *more]


@pytest.mark.parametrize(
    ("rows", "later", "outcome"),
    [
        (kv(0.7), kv(0.9), "ok"),
        (kv(0.7, PREEMPTED), kv(0.99, (*PREEMPTED[:3], 4.0)), "preempted"),
        (kv(0.7, PREEMPTED), kv(0.99, PREEMPTED), "ok"),
        (kv(0.7, ("vllm", "llm/1", "requests.waiting", 2)), kv(0.8), "ok"),
        (kv(0.7, ("vllm", "llm/1", "requests.waiting", 2)), kv(0.98), "queued"),
        (kv(0.7), kv(0.99, ("vllm", "llm/1", "requests.paused", 1)), "preempted"),
    ],
)  # fmt: skip
def test_such_an_engine_preempts_or_queues(rows: Any, later: Any, outcome: str) -> None:
    readings = pa.concat_tables([table(*rows, times=(1,)), table(*later, times=(2,))])
    assert crowded(readings, "vllm") == outcome


def test_a_counter_that_began_anew_did_not_shrink() -> None:
    readings = pa.concat_tables(
        [table(("vllm", "llm/1", "requests.preempted", value), times=(t,)) for t, value in enumerate((5, 6, 0, 2))]
    )
    assert grown(readings, "vllm", "requests.preempted") == 3
    assert grown(readings, "vllm", "requests.running") == 0


def test_the_highest_of_each_device() -> None:
    readings = table(*gpu(0, 3.0), *gpu(1, 5.0), times=(1,))
    assert highest(readings, "nvml", "gpu.memory.used") == {"gpu0": 3.0, "gpu1": 5.0}
    assert highest(readings, "nvml", "gpu.memory.used", "gpu1") == {"gpu1": 5.0}
    assert highest(readings, "triton", "gpu.memory.used") == {}
