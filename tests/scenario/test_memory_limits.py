"""Limits on memory in operations: how they are written, what `check` says of them, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from harness.errors import ScenarioError
from harness.scenario import AbTest, FindMaxLoad, MultiModelServer, NightBatch, describe, json_schema, load
from harness.scenario.document import read
from harness.types import Gate
from tests.scenario.test_ab import AB
from tests.scenario.test_operations import FIND, NIGHT, SERVER, write

SHARE = Gate("memory.peak", limit=0.9, limit_kind="share")
BYTES = Gate("memory.peak", limit=40.0 * 2**30)
OBJECTIVE = FIND.replace("max: 250ms}", "max: 250ms}, {metric: memory.peak, max: 90%}")
LIMITED = {
    "find": OBJECTIVE,
    "night": NIGHT + "limits: {memory: 90%}\n",
    "ab": AB + "limits: {memory: 90%}\n",
    "server": SERVER.replace("memory: 80%", "memory: 90%"),
}


def limit_of(scenario: object) -> Gate | None:
    if isinstance(scenario, FindMaxLoad):
        return scenario.memory
    assert isinstance(scenario, NightBatch | AbTest | MultiModelServer)
    return scenario.limits.memory


@pytest.mark.parametrize("name", LIMITED)
def test_a_share_or_bytes_and_back_again(tmp_path: Path, name: str) -> None:
    scenario = load(write(tmp_path, LIMITED[name]))
    assert limit_of(scenario) == SHARE
    dumped = scenario.model_dump(mode="json")
    assert limit_of(type(scenario).model_validate(dumped)) == SHARE
    jsonschema.validate(read(tmp_path / "operation.yaml", "operation.yaml").data, json_schema())
    in_bytes = load(write(tmp_path, LIMITED[name].replace("90%", "40GiB")))
    assert limit_of(in_bytes) == BYTES
    assert "40GiB" in str(in_bytes.model_dump(mode="json"))


def test_without_one_nothing_is_read() -> None:
    for name in ("max-rate", "night-batch", "ab-test"):
        assert limit_of(load(name)) is None
        assert "memory" not in " ".join(describe(load(name)).steps)
    assert limit_of(load("multi-model-server")) == SHARE, "there it is the default"


def test_memory_is_no_objective_of_requests(tmp_path: Path) -> None:
    find = load(write(tmp_path, OBJECTIVE))
    assert isinstance(find, FindMaxLoad)
    assert [one.metric for one in find.objectives] == ["response_time.p90"]
    assert "until a trial misses: response_time.p90 < 250ms, memory.peak < 90%" in " ".join(find.steps)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("server: embedded", "of the GPUs (NVML), or of the server's processes where there is none"),
        ('url: "http://127.0.0.1:8000", server_pid: 7', "or of the server's processes where there is none"),
        ('url: "http://127.0.0.1:8000"', "of the GPUs of this machine (NVML); without one nobody reads it"),
        (
            'url: "http://triton:8000", metrics_url: ["http://triton:8002/metrics", "http://triton:9400/metrics"]',
            "of the GPUs that http://triton:8002/metrics and http://triton:9400/metrics tell of",
        ),
        (
            'url: "http://triton:8000"',
            "of triton only where that is this machine, and has a GPU (NVML); else nobody can",
        ),
    ],
)
def test_check_says_who_reads_it(tmp_path: Path, target: str, said: str) -> None:
    steps = describe(load(write(tmp_path, OBJECTIVE.replace('url: "http://triton:8000"', target)))).steps
    assert [step for step in steps if step.startswith("memory at most 90% meanwhile, read ") and said in step], steps


@pytest.mark.parametrize(
    ("name", "override", "said"),
    [
        ("find", "under.1.max=90", "under.1.max: expected a size such as 40GiB, or a share of the device's memory"),
        ("find", "under.1.max=", "under.1: memory.peak needs max (such as max: 90%)"),
        ("find", "under.1.min=9%", "under.1.min: only goodput has min; memory.peak takes max"),
        (
            "find",
            "under=[{metric: memory.peak, max: 90%}]",
            "under: expected errors, goodput or a time beside memory.peak",
        ),
        ("find", "under.0={metric: memory.peak, max: 1GiB}", "under.1: memory.peak is there twice"),
        ("find", "target={server: embedded, server_pid: 7}", "target.server_pid: the embedded server has its own"),
        (
            "night",
            "limits.memory=100%",
            "limits.memory: expected a share of the device's memory above 0% and below 100%",
        ),
        ("night", "target.metrics_url=triton", "target.metrics_url: expected a URL such as"),
        ("ab", "limits.memory=lots", "limits.memory: expected a size such as 40GiB, or a share of the device's memory"),
        ("ab", "limits.memroy=90%", "limits.memroy: unknown key; did you mean memory?"),
        ("server", "limits.memory=0%", "limits.memory: expected a share of the device's memory above 0%"),
    ],
)
def test_what_is_wrong_with_them(tmp_path: Path, name: str, override: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(write(tmp_path, LIMITED[name]), [override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
