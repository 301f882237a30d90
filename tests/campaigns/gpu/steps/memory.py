"""Memory under load as NVML has it, held against what Triton's own page says at the same moments; and by process.

SmolLM2's FP16 answers all the time; in the middle its FP8 build is loaded beside it, so that memory moves. Triton
renews its figures every second here (the embedded server asks it to): what its page says is up to that old.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.campaigns.gpu.steps.place import Found, Place, main

if TYPE_CHECKING:
    from harness.embedded import EmbeddedServer

SECONDS = 6.0
"""Before the second version is loaded, and after."""
OLD_S = 2.2
"""How old the page's figures may be, with a margin: renewed every second, and asked for meanwhile."""
NVML_S, PAGE_S = 0.02, 0.1
At = tuple[float, float]
"""Seconds, and bytes."""


def measure(place: Place) -> Found:
    from harness.triton import Control
    from tests.campaigns.gpu.steps.serving import Load, serving

    seconds = 2.0 if place.rehearsed else SECONDS
    builds = {"smollm2": {1: "fp16", 2: "fp8"}}
    with (
        serving(place, builds, load={"smollm2": [1]}) as server,
        Control(server.grpc_url) as control,
        Load(server, place.folder / "load", "smollm2", 1) as load,
        watching(server) as seen,
    ):
        load.begin(600.0)
        time.sleep(seconds)
        began_s = time.monotonic()
        control.set_versions("smollm2", [1, 2], repository=server.repository)
        loaded_s = time.monotonic()
        time.sleep(seconds)
        load.stop()
    nvml, page = seen["nvml"], seen["page"]
    found: Found = {
        "nvml_polls": len(nvml), "page_polls": len(page), "load_s": loaded_s - began_s,
        "reserved_bytes": seen["reserved"], "processes": seen["processes"], "page_said": seen["said"],
        "problems": sorted(set(seen["problems"])),
        "comparison": compare(nvml, page),
    }  # fmt: skip
    if nvml:
        found |= {
            "before_bytes": _at(nvml, began_s), "after_bytes": _at(nvml, nvml[-1][0]),
            "most_bytes": max(value for _, value in nvml),
        }  # fmt: skip
    return found


@contextmanager
def watching(server: EmbeddedServer) -> Iterator[dict[str, Any]]:
    """`nvml` and `page`: what the first GPU uses, by time; `processes`: the last memory of each device's process;
    `said`: metrics of GPUs on the page.
    """
    from harness.telemetry import Nvml, Page

    nvml, page = Nvml(slow_s=0.5), Page(server.metrics_url)
    seen: dict[str, Any] = {"nvml": [], "page": [], "processes": {}, "reserved": None, "said": [], "problems": []}
    ending = threading.Event()

    def of_nvml() -> None:
        for value in nvml.read():
            if value.metric == "gpu.memory.used" and value.device == "gpu0":
                seen["nvml"].append((time.monotonic(), value.value))
            elif value.metric == "gpu.memory.reserved" and value.device == "gpu0":
                seen["reserved"] = value.value
            elif value.metric == "gpu.memory.process":
                seen["processes"][value.device] = value.value

    def of_page() -> None:
        told = [value for value in page.shown() if value.metric.startswith("gpu.")]
        seen["said"] = sorted({value.metric for value in told})
        used = [value.value for value in told if value.metric == "gpu.memory.used"]
        if used:
            seen["page"].append((time.monotonic(), used[0]))

    def loop(read: Any, every_s: float) -> None:
        while not ending.wait(every_s):
            try:
                read()
            except Exception as error:  # noqa: BLE001 - one reading less; what was wrong is told
                seen["problems"].append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=loop, args=each) for each in ((of_nvml, NVML_S), (of_page, PAGE_S))]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ending.set()
        for thread in threads:
            thread.join()
        nvml.close()
        page.close()


def compare(nvml: Sequence[At], page: Sequence[At], old_s: float = OLD_S) -> Found:
    """Largest differences, relative to NVML's value.

    `steady`: at moments before which NVML's value had not changed for `old_s`, so that the page's age does not matter;
    `any`: of all moments, against what NVML had at that moment or up to `old_s` before, whatever is nearest.
    """
    found: Found = {"steady": None, "steady_moments": 0, "any": None, "moments": 0}
    for at_s, told in page:
        around = [value for t_s, value in nvml if at_s - old_s <= t_s <= at_s]
        if not around or min(t_s for t_s, _ in nvml) > at_s - old_s:
            continue
        nearest = min(abs(told - value) / value for value in around)
        found["any"], found["moments"] = max(found["any"] or 0.0, nearest), found["moments"] + 1
        if max(around) == min(around):
            found["steady"], found["steady_moments"] = max(found["steady"] or 0.0, nearest), found["steady_moments"] + 1
    return found


def _at(series: Sequence[At], at_s: float) -> float:
    return min(series, key=lambda each: abs(each[0] - at_s))[1]


def lines(found: Found) -> list[str]:
    from tests.campaigns.gpu.steps.canary import amount

    comparison = found["comparison"]
    text = [
        f"SmolLM2 in FP16 under load: {amount(found['before_bytes'], 'bytes')} of the GPU in use by NVML; with FP8 "
        f"loaded beside it (in {found['load_s']:.1f} s) {amount(found['after_bytes'], 'bytes')}.",
    ]
    if comparison["any"] is None:
        said = ", ".join(found["page_said"]) or "nothing of GPUs"
        text.append(f"Triton's page tells no memory of a GPU (it tells {said}): there is nothing to compare.")
    else:
        steady = "none" if comparison["steady"] is None else f"{100 * comparison['steady']:.2f} %"
        text += [
            "", "| Triton's page against NVML | moments | largest difference |", "|---|--:|--:|",
            f"| memory had not changed for {OLD_S:g} s | {comparison['steady_moments']} | {steady} |",
            f"| any moment, the nearest that NVML had up to {OLD_S:g} s before | {comparison['moments']} | "
            f"{100 * comparison['any']:.2f} % |",
        ]  # fmt: skip
    told = [f"{device} {amount(value, 'bytes')}" for device, value in found["processes"].items()]
    return [*text, "", f"By process, as NVML tells it: {', '.join(told) or 'nothing'}."]


if __name__ == "__main__":
    main(measure)
