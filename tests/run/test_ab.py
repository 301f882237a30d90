"""ab-test: two arms of a real Triton, users dealt out between them, and routers that honour the header or do not."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import UsageError
from harness.ingress import open_ingress
from harness.recording import read_table
from harness.run.execute import Result
from harness.run.operations.operate import operate
from harness.scenario import AbTest, load
from harness.types import answer_in
from tests.load.openai_front_end import OpenAiFrontEnd
from tests.run.conftest import canary, journal
from tests.run.front import Place, needs, one_triton, two_tritons
from tests.triton.proxy import HAPROXY, proxy

pytestmark = pytest.mark.triton

SLOW, FAST, FAILS = 1, 2, 3
TUNES = """
kind: ab-test
name: tunes
target: {{url: "{url}"}}
a: {{model: tiny, version: {a}}}
b: {{model: tiny, version: {b}}}
units: 400
labelled: 20%
load: {{rate: 60/s, timeout: 20s}}
for: {seconds}s
warm_up: 500ms
metrics: [{metrics}]
"""
P50 = "{metric: response_time.p50, margin: 10%}, {metric: errors, margin: 20pp}"
ERRORS = "{metric: errors, margin: 20pp}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("ab")
    builds = {SLOW: {"delay_ms": 60}, FAST: {"delay_ms": 30}, FAILS: {"delay_ms": 30, "fail": 0.6}}
    build_repository(folder / "models", {"tiny": builds, "batching": {1: "fp16"}})
    with EmbeddedServer(folder / "models", folder / "server.log") as running:
        yield running.start({"tiny": [SLOW, FAST, FAILS], "batching": [1]})


def written(url: str, a: int = SLOW, b: int = FAST, metrics: str = P50, seconds: int = 10) -> str:
    return TUNES.format(url=url, a=a, b=b, metrics=metrics, seconds=seconds)


def run(folder: Path, text: str) -> Result:
    path = folder / "tunes.yaml"
    path.write_text(text)
    scenario = load(path)
    assert isinstance(scenario, AbTest)
    return operate(scenario, folder / "out", lambda _line: None)


def samples_of(result: Result) -> list[dict[str, Any]]:
    table = read_table(result.folder, "samples")
    assert isinstance(table, pa.Table)
    return table.to_pylist()


def outcomes(result: Result) -> dict[str, str]:
    return {finding.metric: finding.outcome for finding in result.verdict.findings}


def sound(result: Result) -> None:
    """The experiment was one; the machine may have been too busy for its times."""
    found = outcomes(result)
    for check in ("honoured", "sticky", "ratio", "activity"):
        assert found[f"assignment.{check}"] == "pass", result.verdict
    assert found["load"] in ("pass", "inconclusive"), result.verdict


def said_unless_late(result: Result, metric: str) -> str:
    """The answer; "" where the load was late and nothing is said."""
    (finding,) = [one for one in result.verdict.findings if one.metric == metric]
    return answer_in(finding.reason) if outcomes(result)["load"] == "pass" else ""


def test_the_faster_arm_is_found_and_every_assignment_is_logged(server: EmbeddedServer, tmp_path: Path) -> None:
    result = run(tmp_path, written(server.http_url))
    sound(result)
    assert said_unless_late(result, "response_time.p50") in ("B better", "")
    if outcomes(result)["load"] == "pass":
        assert answer_in(result.verdict.reason) == "B better", result.verdict
        assert result.exit_code == 0
    scenario = load(tmp_path / "tunes.yaml")
    assert isinstance(scenario, AbTest)
    dealt = scenario.experiment()
    by = {unit: (arm, how) for unit, arm, how in zip(dealt.units, dealt.arms, dealt.assignments, strict=True)}
    rows = samples_of(result)
    assert len(rows) > 300
    assert all((row["arm"], row["assignment"]) == by[row["unit"]] for row in rows)
    assert {row["assignment"] for row in rows} == {"hash", "header"}
    assert {(row["arm"], row["version"]) for row in rows} == {("baseline", "1"), ("candidate", "2")}
    # The verdict follows from the folder alone, and the report says it.
    again = canary("judge", result.folder, "--json")
    assert again.stdout == (result.folder / "verdict.json").read_text()
    assert again.code == result.exit_code
    page = (result.folder / "report.html").read_text()
    assert answer_in(result.verdict.reason) in page
    report = (result.folder / "report.md").read_text()
    assert canary("report", result.folder).code == 0
    assert (result.folder / "report.md").read_text() == report
    recorded = json.loads((result.folder / "run.json").read_text())["scenario"]
    assert "headers" not in recorded["a"]


def test_the_arm_that_fails_loses_whatever_its_times(server: EmbeddedServer, tmp_path: Path) -> None:
    result = run(tmp_path, written(server.grpc_url, a=FAST, b=FAILS, metrics=ERRORS))
    sound(result)
    assert answer_in(result.verdict.reason) == "A better", result.verdict
    assert result.exit_code == 0
    (errors,) = [one for one in result.verdict.findings if one.metric == "errors"]
    assert errors.effect is not None
    assert 0.35 < errors.effect < 0.85


@pytest.mark.parametrize("a", [FAST])
def test_an_arm_and_itself(server: EmbeddedServer, tmp_path: Path, a: int) -> None:
    """The same version by two names of the server: nothing but the address tells them apart."""
    text = written(server.http_url, a=a, b=a)
    other = server.http_url.replace("127.0.0.1", "localhost")
    text = text.replace(f"b: {{model: tiny, version: {a}}}", f'b: {{model: tiny, version: {a}, url: "{other}"}}')
    result = run(tmp_path, text)
    sound(result)
    assert said_unless_late(result, "response_time.p50") in ("no difference within the margin", "")
    assert answer_in(result.verdict.reason) in ("no difference within the margin", "not enough")
    (honoured,) = [one for one in result.verdict.findings if one.metric == "assignment.honoured"]
    assert "at its own address" in honoured.reason


def test_two_models_and_two_workers(server: EmbeddedServer, tmp_path: Path) -> None:
    text = written(server.http_url, metrics=ERRORS).replace("b: {model: tiny, version: 2}", "b: {model: batching}")
    result = run(tmp_path, text.replace("rate: 60/s", "rate: 60/s, workers: 2"))
    sound(result)
    assert {(row["arm"], row["model"]) for row in samples_of(result)} == {
        ("baseline", "tiny"), ("candidate", "batching"),
    }  # fmt: skip
    assert {row["worker"] for row in samples_of(result)} == {0, 1}


def test_a_version_that_does_not_serve_leaves_nothing_behind(server: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tiny: does not serve as asked"):
        run(tmp_path, written(server.http_url, b=9))
    assert not list((tmp_path / "out").iterdir())


def test_answers_are_scored_by_unit(tmp_path: Path) -> None:
    """Two front ends that repeat what they are asked: all of it is right, and both are alike."""
    lines = [{"prompt": f"say {number}", "unit": f"user-{number}", "expected": str(number)} for number in range(300)]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    metrics = "{metric: quality.score.right, margin: 20pp}, {metric: osl, margin: 5%}, {metric: errors, margin: 20pp}"
    with OpenAiFrontEnd() as a, OpenAiFrontEnd() as b:
        text = written(a.url, metrics=metrics, seconds=6).replace("units: 400\nlabelled: 20%\n", "")
        text = text.replace("model: tiny, version: 1", "model: echo, api: openai")
        text = text.replace("model: tiny, version: 2", f'model: echo, api: openai, url: "{b.url}"')
        text = text.replace("rate: 60/s", "rate: 60/s, prompts: asked.jsonl, max_tokens: 4")
        result = run(tmp_path, text + "scorers: {right: {use: contains}}\n")
        sound(result)
        assert {headers.get("x-experiment") for headers, _ in a.seen} == {"A"}
        assert {headers.get("x-experiment") for headers, _ in b.seen} == {"B"}
    said = {one.metric: answer_in(one.reason) for one in result.verdict.findings}
    assert said["quality.score.right"] == said["osl"] == "no difference within the margin", result.verdict
    (score,) = [one for one in result.verdict.findings if one.metric == "quality.score.right"]
    assert (score.baseline, score.candidate) == (1.0, 1.0)
    # Each user asked once or twice; who asked what is in the file, and the arm follows from the name.
    rows = samples_of(result)
    assert {row["unit"] for row in rows} <= {line["unit"] for line in lines}
    assert {row["assignment"] for row in rows} == {"hash"}


# ---------------------------------------------------------------- routers


def through(text: str, ingress: str) -> str:
    return text.replace("units:", f"ingress: {ingress}\nunits:")


@pytest.mark.skipif(HAPROXY is None, reason="needs HAProxy")
def test_a_router_that_ignores_the_header_voids_the_experiment(server: EmbeddedServer, tmp_path: Path) -> None:
    """Everybody gets the highest version: the faster arm seems to be no better than the other."""
    with proxy(tmp_path, server.http_url.partition("://")[2]) as port:
        result = run(tmp_path, through(written(server.http_url), f'{{url: "http://127.0.0.1:{port}"}}'))
    assert outcomes(result)["assignment.honoured"] == "fail"
    assert answer_in(result.verdict.reason) == "nothing can be said"
    assert result.exit_code == 1
    assert all(one.effect is None for one in result.verdict.findings if one.metric in ("response_time.p50", "errors"))
    assert {row["version"] for row in samples_of(result)} <= {str(FAILS), ""}


@pytest.mark.skipif(HAPROXY is None, reason="needs HAProxy")
def test_a_router_that_tosses_a_coin_shows_units_both_arms(server: EmbeddedServer, tmp_path: Path) -> None:
    rules = "\n  ".join(
        f"http-request set-path /v2/models/tiny/versions/{version}/infer if {{ path_end /infer }} {{ rand(2) {coin} }}"
        for version, coin in ((SLOW, "eq 0"), (FAST, "ge 0"))
    ).replace("{ path_end /infer } { rand(2) ge 0 }", "{ path_end tiny/infer }")
    with proxy(tmp_path, server.http_url.partition("://")[2], rules=rules) as port:
        result = run(tmp_path, through(written(server.http_url), f'{{url: "http://127.0.0.1:{port}"}}'))
    assert outcomes(result)["assignment.honoured"] == "fail", result.verdict
    assert outcomes(result)["assignment.sticky"] == "fail"
    assert result.exit_code == 1


@pytest.mark.parametrize("kind", ["haproxy", "envoy"])
def test_a_real_router_that_is_started_for_it(tmp_path: Path, kind: str) -> None:
    needs(kind)
    text = through(written("", metrics=ERRORS, seconds=6), f"{{server: {kind}}}")
    text = text.replace('target: {url: ""}', "target: {server: embedded}")
    result = run(tmp_path, text)
    sound(result)
    rows = samples_of(result)
    assert {(row["arm"], row["version"], row["server"]) for row in rows} == {
        ("baseline", "1", "baseline"), ("candidate", "2", "candidate"),
    }  # fmt: skip
    assert "with x-experiment: B" in (result.folder / "report.md").read_text()


@pytest.mark.parametrize("kind", ["haproxy", "envoy"])
def test_two_servers_behind_somebody_elses_router_over_grpc(tmp_path: Path, kind: Any) -> None:
    """Its header rules are set for the run, and are afterwards what they were."""
    with two_tritons(tmp_path / "place", kind) as place:
        router = open_ingress(place.router.control)
        router.header({"B": "baseline"})
        text = through(
            written(place.blue.grpc_url, metrics=ERRORS, seconds=6),
            f'{{url: "{place.router.grpc_url}", control: "{place.router.control}"}}',
        ).replace("b: {model: tiny, version: 2}", f'b: {{model: tiny, version: 2, url: "{place.green.grpc_url}"}}')
        result = run(tmp_path, text)
        sound(result)
        assert dict(router.read().headers) == {"B": "baseline"}
        router.close()
    assert {(row["arm"], row["version"], row["server"]) for row in samples_of(result)} == {
        ("baseline", "1", "baseline"), ("candidate", "2", "candidate"),
    }  # fmt: skip
    routed = [line for line in journal(result.folder) if line["action"] == "route.header" and line["state"] == "done"]
    assert [(line["before"], line["wanted"]) for line in routed] == [
        ({"B": "baseline"}, {"A": "baseline", "B": "candidate"}), (None, {"B": "baseline"}),
    ]  # fmt: skip


def routed(place: Place, folder: Path, background: Any) -> Any:
    """A run that has set its header rules, and goes on."""
    control = place.router.control
    text = through(
        written(place.blue.http_url, metrics=ERRORS, seconds=300),
        f'{{url: "{place.router.http_url}", control: "{control}"}}',
    )
    (folder / "tunes.yaml").write_text(text)
    process = background("run", folder / "tunes.yaml", "--out", folder / "out")
    wait_for_header(control, {"A": "baseline", "B": "candidate"})
    return process


@pytest.mark.slow
def test_interrupted_it_takes_its_header_rules_back(tmp_path: Path, background: Any) -> None:
    with one_triton(tmp_path / "place", "haproxy", serve=(1, 2)) as place:
        control = place.router.control
        process = routed(place, tmp_path, background)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 3, stderr
        assert headers(control) == {}
    (folder,) = (tmp_path / "out").iterdir()
    verdict = json.loads((folder / "verdict.json").read_text())
    assert answer_in(verdict["reason"]) == "not enough"
    assert "SIGTERM" in verdict["reason"]


@pytest.mark.slow
def test_a_run_that_died_left_its_header_rules_which_recover_takes_back(tmp_path: Path, background: Any) -> None:
    with one_triton(tmp_path / "place", "haproxy", serve=(1, 2)) as place:
        control = place.router.control
        process = routed(place, tmp_path, background)
        process.kill()
        process.communicate(timeout=60)
        (folder,) = (tmp_path / "out").iterdir()
        back = canary("recover", folder)
        assert back.code == 0, back.stderr
        assert "the header leads nobody, as before" in back.stderr
        assert headers(control) == {}
        assert canary("recover", folder).code == 0, "running it again is harmless"
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "inconclusive"


def headers(control: str) -> dict[str, str]:
    router = open_ingress(control)
    try:
        return dict(router.read().headers)
    finally:
        router.close()


def wait_for_header(control: str, wanted: dict[str, str]) -> None:
    deadline = time.monotonic() + 120
    while headers(control) != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.05)
