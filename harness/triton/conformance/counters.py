"""What Triton counts: the statistics extension, and the metrics page."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.triton.conformance.row import Facts, Group, NotRun
from harness.triton.conformance.site import Site

GROUP = Group("Counters")
row = GROUP.row

SUCCESS, FAILURE = "nv_inference_request_success", "nv_inference_request_failure"
ALWAYS = {
    SUCCESS, FAILURE, "nv_inference_count", "nv_inference_exec_count", "nv_inference_pending_request_count",
    "nv_inference_request_duration_us", "nv_inference_queue_duration_us", "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us", "nv_inference_compute_output_duration_us",
}  # fmt: skip


@row(
    claim="The statistics extension counts per version, whoever asks and whether or not they named it; only versions "
    "that serve are listed.",
    expected={
        "versions": ["1", "2"],
        "v1": {"success": 2, "fail": 1},
        "v2": {"success": 1, "fail": 0},
        "versions after 1 has left": ["2"],
    },
    safeguard="Requests that still arrive at a version, and ones that name none, are counted there: no metrics port "
    "is needed.",
)
def statistics_per_version(site: Site) -> Facts:
    model = site.model(1, 2)
    for version, seconds in ((1, 0.0), (1, 0.0), (1, -2.0), (None, 0.0)):
        model.ask(version, seconds)
    statistics = model.counted(4)
    model.set(2)
    model.until(1, "UNAVAILABLE")
    return {
        "versions": sorted(statistics),
        "v1": statistics.get("1"),
        "v2": statistics.get("2"),
        "versions after 1 has left": sorted(site.api.statistics(model.name)),
    }


@row(
    claim="A request that a Python model answers with an **error** counts as a success, in the statistics and on the "
    "metrics page; one in which the model raises counts as a failure; one that Triton refuses (a wrong shape) is not "
    "counted at all.",
    expected={
        "answered with an error": {"status": 500, "success": 1, "fail": 0},
        "raised": {"status": 500, "success": 0, "fail": 1},
        "refused": {"status": 400, "success": 0, "fail": 0},
    },
    safeguard="Errors are counted by the harness, from the client's side; Triton's counters only say how many requests "
    "arrive.",
)
def what_counts_as_a_failure(site: Site) -> Facts:
    model = site.model(1)
    wrong = {"inputs": [{"name": "SECONDS", "shape": [2], "datatype": "FP32", "data": [0, 0]}]}
    asks: dict[str, Callable[[], int]] = {
        "answered with an error": lambda: model.ask(1, -1.0).status,
        "raised": lambda: model.ask(1, -2.0).status,
        "refused": lambda: site.api.call("POST", f"/models/{model.name}/infer", wrong).status_code,
    }
    facts = {}
    before = {"success": 0, "fail": 0}
    for name, asking in asks.items():
        status = asking()
        # One more, which is known to be counted, and after the other: nobody knows when one is not counted.
        model.ask(1)
        number = sum(before.values()) + (1 if name == "refused" else 2)
        after = model.counted(number)["1"]
        facts[name] = {
            "status": status,
            "success": after["success"] - before["success"] - 1,
            "fail": after["fail"] - before["fail"],
        }
        before = after
    return facts


@row(
    claim="The counts of the statistics extension begin at 0 when a version is initialised anew.",
    expected={"before": 3, "after": 0},
    safeguard="A count that falls is a version that was loaded anew, not a negative number of requests.",
)
def statistics_after_a_reload(site: Site) -> Facts:
    model = site.model(1)
    for _ in range(3):
        model.ask(1)
    before = model.counted(3)["1"]["success"]
    model.set(1, parameters={"changed": {"string_value": "yes"}})
    return {"before": before, "after": site.api.statistics(model.name)["1"]["success"]}


@row(
    claim="On the metrics page the success counter of an unloaded version vanishes, and is 0 after it is loaded again; "
    "its **failure** counters stay, and go on counting.",
    expected={
        "success": [2, None, 0],
        "failure": [1, 1, 1],
    },
    safeguard="Differences are taken between two looks at a version that served all the while.",
    metrics=True,
)
def metrics_of_an_unloaded_version(site: Site) -> Facts:
    model = site.model(1, 2)
    for seconds in (0.0, 0.0, -2.0):
        model.ask(2, seconds)
    model.counted(3)
    success, failure = [], []
    for versions in ([1, 2], [1], [1, 2]):
        model.set(*versions)
        if 2 not in versions:
            model.until(2, "UNAVAILABLE")
        success.append(site.api.counter(SUCCESS, model.name, 2))
        failure.append(site.api.counter(FAILURE, model.name, 2))
    return {"success": success, "failure": failure}


@row(
    claim="The metrics page has these names for every model: "
    + ", ".join(f"`{name}`" for name in sorted(ALWAYS))
    + ".",
    expected={"missing": []},
    safeguard="Readings are taken from these names; one that is missing is a reading that is missing, never a 0.",
    metrics=True,
)
def metrics_names(site: Site) -> Facts:
    model = site.model(1)
    model.ask(1)
    found = set(re.findall(rf'^(nv_\w+)\{{[^}}]*model="{model.name}"', site.api.metrics().text, re.MULTILINE))
    return {"missing": sorted(ALWAYS - found), "others": sorted(found - ALWAYS)}


@row(
    claim="`nv_gpu_utilization` is a share from 0 to 1, not per cent.",
    expected={"all from 0 to 1": True},
    safeguard="DCGM's exporter says per cent; both are read into the same unit.",
    metrics=True,
)
def metrics_of_a_gpu(site: Site) -> Facts:
    values = [
        float(value) for value in re.findall(r"^nv_gpu_utilization\{.*\} (\S+)$", site.api.metrics().text, re.MULTILINE)
    ]
    if not values:
        raise NotRun("the server's metrics show no GPU")
    return {"all from 0 to 1": all(0 <= value <= 1 for value in values), "values": values}
