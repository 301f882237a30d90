"""Scenarios from the arguments of `gate`, and rules by themselves."""

from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario import from_gate, load_rules, plan
from harness.types import Gate, Prompt, StagePlan

V1, V2 = "grpc://host:8001/llm:1", "grpc://host:8001/llm:2"


def refused(*args: str, **kwargs: object) -> str:
    with pytest.raises(ScenarioError) as caught:
        from_gate(*args, **kwargs)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_paired_stage_and_no_action(tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "Hello?"}\n')
    scenario = from_gate(
        V1,
        V2,
        prompts=prompts,
        margins=["ttft.p99=10%", "errors=2pp", "quality.kl=0.06"],
        duration="2m",
        in_flight=3,
    )
    assert scenario.baseline.url == "grpc://host:8001"
    assert (scenario.candidate.model, scenario.candidate.version) == ("llm", 2)
    assert scenario.gates == (
        Gate("ttft.p99", 0.1),
        Gate("errors", 0.02, "absolute"),
        Gate("quality.kl", limit=0.06),
    )
    assert plan(scenario).stages == (StagePlan(0, "paired", "closed", 120.0, 0.5, in_flight=3),)
    assert plan(scenario).prompts == (Prompt("Hello?"),)
    assert scenario.on_fail is None
    assert scenario.on_promote is None


def test_limits_and_where_memory_is_read() -> None:
    scenario = from_gate(
        V1,
        V2,
        margins=["errors=1pp"],
        limits=["memory.peak=90%", "response_time.p99=500ms"],
        metrics=["http://host:8002/metrics", "http://host:9400/metrics"],
    )
    assert scenario.gates == (
        Gate("errors", 0.01, "absolute"),
        Gate("memory.peak", limit=0.9, limit_kind="share"),
        Gate("response_time.p99", limit=0.5),
    )
    assert scenario.target.metrics_url == ("http://host:8002/metrics", "http://host:9400/metrics")
    assert from_gate(V1, V2, limits=["memory.peak=40GiB"]).gates == (Gate("memory.peak", limit=40.0 * 2**30),)


def test_two_servers_and_no_version() -> None:
    scenario = from_gate("http://a:8000/tiny", "http://b:8000/tiny", seed=4)
    assert (scenario.baseline.url, scenario.candidate.url) == ("http://a:8000", "http://b:8000")
    assert scenario.baseline.version is None
    assert scenario.seed == 4
    assert scenario.gates == ()


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((V1, V1), {}, f"--candidate {V1}: candidate.version: expected another version"),
        (("host:8001/llm", V2), {}, "--baseline host:8001/llm: expected scheme://host:port/model:version such as"),
        (("grpc://host:8001", V2), {}, "--baseline grpc://host:8001: expected scheme://host:port/model"),
        (("grpc://host/llm:1", V2), {}, "--baseline grpc://host/llm:1: baseline.url: expected grpc://host:port"),
        (("ftp://host:1/llm:1", V2), {}, "--baseline ftp://host:1/llm:1: baseline.url: expected grpc://host:port"),
        ((V1, "grpc://host:8001/llm:new"), {}, "--candidate grpc://host:8001/llm:new: expected a version from 1 up, found 'new'"),  # noqa: E501
        ((V1, "grpc://host:8001/llm:0"), {}, "--candidate grpc://host:8001/llm:0: expected a version from 1 up"),
        ((V1, V2), {"margins": ["ttft.p50"]}, "--margin ttft.p50: expected METRIC=MARGIN such as ttft.p99=10%"),
        ((V1, V2), {"limits": ["memory.peak"]}, "--max memory.peak: expected METRIC=LIMIT such as memory.peak=90%"),
        ((V1, V2), {"limits": ["memory.peak=90"]}, "--max memory.peak=90: gates.0.max: expected a size such as 40GiB"),
        ((V1, V2), {"margins": ["errors=1pp"], "limits": ["errors=1%"]}, "--max errors=1%: gates.1.metric: errors is"),
        ((V1, V2), {"limits": ["energy=5%"]}, "--max energy=5%: gates.0.max: energy takes a margin, not max"),
        ((V1, V2), {"metrics": ["host:8002"]}, "--metrics-url host:8002: target.metrics_url: expected a URL such as"),
        ((V1, V2), {"margins": ["ttft.p50=ten"]}, "--margin ttft.p50=ten: gates.0.margin: expected a percentage"),
        ((V1, V2), {"margins": ["errors=1pp", "x=1%"]}, "--margin x=1%: gates.1.metric: expected a metric"),
        ((V1, V2), {"margins": ["quality.kl=0.1"]}, "--margin quality.kl=0.1: gates.0.metric: quality.kl needs load.prompts"),  # noqa: E501
        ((V1, V2), {"duration": "soon"}, "--for soon: stages.0.for: expected a duration"),
        ((V1, V2), {"in_flight": 0}, "--in-flight 0: stages.0.in_flight: expected a whole number from 1 up"),
        ((V1, V2), {"prompts": "none.jsonl"}, "--prompts none.jsonl: load.prompts: expected a file of prompts"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(arguments: tuple[str, str], options: dict[str, object], expected: str) -> None:
    message = refused(*arguments, **options)
    assert message.startswith(expected), message


@pytest.mark.parametrize(
    "text", ["- {metric: errors, margin: 3pp}\n", "gates:\n  - {metric: errors, margin: 3pp}\nname: other\n"]
)
def test_rules_of_a_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    assert load_rules(path) == (Gate("errors", 0.03, "absolute"),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gates:\n  - {metric: error}\n", ":2:14: gates.0.metric: expected a metric"),
        ("- {metric: errors, margn: 1pp}\n", ":1:20: 0.margn: unknown key; did you mean margin?"),
        ("name: x\n", ":1:1: gates: is missing"),
        ("gates: 3\n", ":1:8: gates: expected a list, found 3"),
    ],
)
def test_wrong_rules(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        load_rules(path)
    assert str(caught.value).startswith(f"{path}{expected}")


def test_no_rules_file(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"none\.yaml: cannot be read: No such file"):
        load_rules(tmp_path / "none.yaml")
