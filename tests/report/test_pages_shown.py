"""What metrics pages told, drawn; and what nobody could read, said."""

from __future__ import annotations

from dataclasses import replace

from harness.recording import Recording
from harness.report import facts, panels
from harness.report.page import page
from harness.types import Reading
from tests.report import factory

USED = "gpu.memory.used"


def drawn(*told: tuple[str, str, float]) -> dict[str, tuple[str, list[float]]]:
    """Panels of both figures by title: (unit, values of the first line); each of `told` is read 5 times, growing."""
    rows = [
        Reading(n * factory.NS, source, "GPU-aa", metric, value * (n + 1), "bytes" if metric == USED else "1")
        for source, metric, value in told
        for n in range(5)
    ]
    recording = Recording(
        factory.Path("run"), {}, factory.nothing().samples, readings=factory.table(rows, factory.READINGS)
    )
    series = facts.readings(recording)
    found = panels.panels(series, (*panels.MEMORY, *panels.USE, *panels.REST))
    return {panel.title: (panel.unit, panel.lines[0].value.tolist()) for panel in found}


def test_of_several_that_tell_of_gpu_memory_the_best_is_drawn() -> None:
    all_three = [(source, USED, 2.0**30) for source in ("triton", "dcgm", "nvml")]
    for told, title in (
        (all_three, "GPU memory used"),
        (all_three[:2], "GPU memory used, says DCGM"),
        (all_three[:1], "GPU memory used, says Triton"),
    ):
        assert list(drawn(*told)) == [title]


def test_triton_is_drawn_beside_the_kv_cache_of_an_engine() -> None:
    found = drawn(("triton", USED, 2.0**30), ("vllm", "kv_cache.usage", 0.1), ("trtllm", "requests.waiting", 2.0))
    assert list(found) == [
        "GPU memory used, says Triton", "KV cache in use (vLLM)", "Requests waiting in TensorRT-LLM",
    ]  # fmt: skip


def test_preemptions_are_shown_by_their_speed() -> None:
    assert drawn(("vllm", "requests.preempted", 3.0)) == {"Requests that vLLM preempted": ("/s", [3.0] * 4)}


def test_what_could_not_be_read_stands_with_the_readings() -> None:
    recording = factory.nothing()
    notes = ["NVML: this machine has no GPU", "llm/1 is served by vLLM <x>, whose metrics are off"]
    told = replace(recording, meta={**recording.meta, "telemetry": {"notes": notes, "missed_polls": 0}})
    text = page(told, factory.empty_verdict())
    section = text.split('<section aria-labelledby="resources">')[1].split("</section>")[0]
    assert "<li>NVML: this machine has no GPU</li>" in section
    assert "<li>llm/1 is served by vLLM &lt;x&gt;, whose metrics are off</li>" in section
    assert "Not read" not in page(recording, factory.empty_verdict())
