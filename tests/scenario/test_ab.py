"""ab-test as a file, the arm of each unit by its name alone, and the requests that follow."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from harness.errors import ScenarioError
from harness.scenario import AbTest, describe, load
from harness.scenario.plan import requests
from harness.scenario.plan.experiment import drawn, of_prompts
from harness.scenario.plan.rendezvous import arm_of, uniform
from harness.types import PlannedRequest, StagePlan
from tests.scenario.conftest import changed

AB = """\
kind: ab-test
name: tunes
target: {url: "http://triton:8000"}
a: {model: llm, version: 1}
b: {model: llm, version: 2}
units: 400
labelled: 30%
load: {rate: 20/s}
for: 60s
metrics:
  - {metric: response_time.p50, margin: 10%}
  - {metric: errors, margin: 1pp}
"""
HALF = {"A": 0.5, "B": 0.5}
NAMES = [f"user-{number}" for number in range(20_000)]
STAGE = StagePlan(0, "split", "constant", 100.0, 0.5, rate=200.0)


@pytest.fixture
def ab(tmp_path: Path) -> Path:
    path = tmp_path / "ab.yaml"
    path.write_text(AB)
    return path


def loaded(path: Path, *overrides: str) -> AbTest:
    scenario = load(path, overrides)
    assert isinstance(scenario, AbTest)
    return scenario


# ---------------------------------------------------------------- rendezvous


@pytest.mark.parametrize("weights", [HALF, {"A": 0.9, "B": 0.1}, {"A": 1.0, "B": 2.0, "C": 5.0}])
def test_each_arm_gets_its_weight_of_the_units(weights: dict[str, float]) -> None:
    found = Counter(arm_of("salt", name, weights) for name in NAMES)
    for arm, weight in weights.items():
        share = weight / sum(weights.values())
        assert stats.binomtest(found[arm], len(NAMES), share).pvalue > 0.001, (arm, found)


def test_a_unit_keeps_its_arm_in_any_process() -> None:
    """No hash() that differs from process to process."""
    names = NAMES[:200]
    code = (
        "import json, sys; from harness.scenario.plan.rendezvous import arm_of; "
        "print(json.dumps([arm_of('salt', name, {'A': 0.5, 'B': 0.5}) for name in json.load(sys.stdin)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(names), capture_output=True, text=True, timeout=120, check=True,
        env={"PYTHONHASHSEED": "4711", "PYTHONDONTWRITEBYTECODE": "1"}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    here = [arm_of("salt", name, HALF) for name in names]
    assert json.loads(done.stdout) == here == [arm_of("salt", name, {"B": 0.5, "A": 0.5}) for name in names]


def test_the_hash_is_what_its_documentation_says() -> None:
    """For a gateway that does the same: these numbers may never change."""
    assert uniform("ab-test", "user-17", "A") == pytest.approx(0.2617734890943095, rel=1e-12)
    assert uniform("ab-test", "user-17", "B") == pytest.approx(0.6412836065338919, rel=1e-12)
    assert uniform("a", "bc", "d") != uniform("ab", "c", "d"), "what is hashed is told apart"


def test_only_units_that_must_move_do() -> None:
    """From half to two thirds, B's share grows by a sixth of all: they come from A, and none goes the other way."""
    before = {name: arm_of("salt", name, HALF) for name in NAMES}
    after = {name: arm_of("salt", name, {"A": 1.0, "B": 2.0}) for name in NAMES}
    moved = Counter((before[name], after[name]) for name in NAMES if before[name] != after[name])
    assert set(moved) == {("A", "B")}
    assert stats.binomtest(moved["A", "B"], len(NAMES), 1 / 6).pvalue > 0.001
    # A third arm takes from both, and moves nobody between them.
    third = {name: arm_of("salt", name, {**HALF, "C": 0.5}) for name in NAMES}
    assert {third[name] for name in NAMES if third[name] != before[name]} == {"C"}


def test_another_salt_deals_anew_and_independently() -> None:
    pairs = Counter((arm_of("one", name, HALF), arm_of("two", name, HALF)) for name in NAMES)
    table = [[pairs[first, second] for second in "AB"] for first in "AB"]
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_an_arm_without_weight_gets_nobody() -> None:
    assert {arm_of("salt", name, {"A": 0.0, "B": 1.0}) for name in NAMES[:500]} == {"B"}
    with pytest.raises(ValueError, match="weight above 0"):
        arm_of("salt", "u", {"A": 0.0})


# ---------------------------------------------------------------- units


def test_units_that_are_drawn() -> None:
    found = drawn(4000, "salt", 0.25, 0.3, 0.0)
    by = Counter(zip(found.arms, found.assignments, strict=True))
    labelled = by["baseline", "header"] + by["candidate", "header"]
    assert stats.binomtest(labelled, 4000, 0.3).pvalue > 0.001
    assert stats.binomtest(by["candidate", "header"], labelled, 0.5).pvalue > 0.001
    assert stats.binomtest(by["candidate", "hash"], 4000 - labelled, 0.25).pvalue > 0.001
    assert found == drawn(4000, "salt", 0.25, 0.3, 0.0)
    # Labels do not depend on the split, nor other units' arms on labels.
    other = drawn(4000, "salt", 0.25, 0.0, 0.0)
    assert all(a == b for a, b, how in zip(found.arms, other.arms, found.assignments, strict=True) if how == "hash")


def test_each_request_is_its_units(ab: Path) -> None:
    found = loaded(ab).experiment()
    asked = list(requests(STAGE, 1, 7, experiment=found))
    arms, how = dict(zip(found.units, found.arms, strict=True)), dict(zip(found.units, found.assignments, strict=True))
    assert len(asked) == 20_000
    assert all(one.arms == (arms[one.unit],) and one.assignment == how[one.unit] for one in asked)
    assert {one.assignment for one in asked} == {"hash", "header"}
    counts = Counter(one.unit for one in asked)
    assert len(counts) == 400
    assert stats.chisquare(list(counts.values())).pvalue > 0.001, "each as often as any other"
    # Due times and prompts are those of any other load.
    plain = list(requests(STAGE, 1, 7))
    assert [(one.due_ns, one.prompt, one.pair_id) for one in asked] == [
        (one.due_ns, one.prompt, one.pair_id) for one in plain
    ]
    assert {(one.unit, one.assignment) for one in plain} == {("", "plan")}


def test_heavy_users(ab: Path) -> None:
    found = loaded(ab, "activity=1").experiment()
    counts = Counter(one.unit for one in requests(STAGE, 1, 7, experiment=found))
    assert counts["u001"] == pytest.approx(2 * counts["u002"], rel=0.15)
    assert counts["u001"] == pytest.approx(10 * counts["u010"], rel=0.3)


def test_workers_share_the_plan(ab: Path) -> None:
    found = loaded(ab, "activity=0.5").experiment()
    for stage in (STAGE, replace(STAGE, arrival="closed", in_flight=4, rate=None)):
        whole = list(itertools.islice(requests(stage, 3, 7, experiment=found), 6000))
        parts: list[PlannedRequest] = []
        for worker in range(3):
            mine = requests(stage, 3, 7, worker=worker, workers=3, experiment=found)
            parts += itertools.islice(mine, 2000)
        assert sorted(parts, key=lambda one: one.pair_id) == whole


def test_units_of_prompts(ab: Path) -> None:
    prompts = [
        {"prompt": "One?", "unit": "ann"}, {"prompt": "Two?", "unit": "bob", "experiment": "B"},
        {"prompt": "Three?", "unit": "ann"}, {"prompt": "Four?", "unit": "cy"},
    ]  # fmt: skip
    (ab.parent / "asked.jsonl").write_text("\n".join(map(json.dumps, prompts)) + "\n\n")
    changed(ab, "units: 400\nlabelled: 30%\nload: {rate: 20/s}", "load: {rate: 20/s, prompts: asked.jsonl}")
    found = loaded(ab).experiment()
    assert (found.units, found.of_prompts) == (("ann", "bob", "cy"), (0, 1, 0, 2))
    assert (found.arms[1], found.assignments) == ("candidate", ("hash", "header", "hash"))
    assert found == of_prompts([("ann", ""), ("bob", "B"), ("ann", ""), ("cy", "")], "tunes", 0.5)
    asked = itertools.islice(requests(STAGE, 1, 4, experiment=found), 400)
    assert {(one.prompt, one.unit) for one in asked} == {(0, "ann"), (1, "bob"), (2, "ann"), (3, "cy")}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"prompt": "1", "unit": "a"}', '{"prompt": "2"}'], r"asked\.jsonl:2: unit: expected a unit in every line"),
        (['{"prompt": "1", "unit": "a", "experiment": "A"}', '{"prompt": "2", "unit": "a"}'],
         r"asked\.jsonl:2: experiment: a sends no header here, and A before: it would see both arms"),
        (['{"prompt": "1", "unit": "a", "experiment": "C"}'], "expected A or B, found 'C'"),
        (['{"prompt": "1", "unit": 7}'], "unit: expected a name such as user-1, found 7"),
        (['{"prompt": "1", "experiment": "A"}'], "names an experiment and no unit"),
        (['{"prompt": "1"}'], "give units"),
    ],
)  # fmt: skip
def test_prompts_whose_units_could_not_stay(ab: Path, lines: list[str], message: str) -> None:
    (ab.parent / "asked.jsonl").write_text("\n".join(lines))
    changed(ab, "units: 400\nlabelled: 30%\nload: {rate: 20/s}", "load: {rate: 20/s, prompts: asked.jsonl}")
    with pytest.raises(ScenarioError, match=message):
        load(ab)


# ---------------------------------------------------------------- the file


def test_what_it_says(ab: Path) -> None:
    scenario = loaded(ab)
    assert scenario.arm("baseline", "http://h:1").headers == {"x-experiment": "A"}
    assert scenario.arm("candidate", "http://h:1").headers == {"x-experiment": "B"}
    assert scenario.arm("candidate", "http://h:1").version == 2
    steps = describe(scenario).steps
    assert steps[0] == "check that there is A (llm version 1) and B (llm version 2)"
    assert "30% of them labelled" in steps[1]
    assert "response_time.p50 within 10%, errors within 1pp" in steps[-1]
    assert loaded(ab, "salt=other").experiment() != scenario.experiment()
    assert loaded(ab, "seed=9").experiment() == scenario.experiment(), "another run has the same users"
    text = json.dumps(scenario.model_dump(mode="json"))
    assert "promote" not in text
    assert "rollback" not in text


def test_it_is_said_beforehand_where_units_are_too_few(ab: Path) -> None:
    said = "errors within 1pp take about 437 units of each arm without any failure, and these are worth about "
    assert said in loaded(ab).steps[-1]
    assert "not enough" not in loaded(ab, "units=4000", "load.rate=200/s").steps[-1]
    assert "not enough" in loaded(ab, "units=4000", "load.rate=200/s", "activity=1").steps[-1], (
        "few of them send most of the requests"
    )
    assert "not enough" in loaded(ab, "units=4000", "load.rate=200/s", "for=1s").steps[-1], (
        "few of them send a request at all"
    )
    assert "not enough" not in load("ab-test").steps[-1]


def test_what_it_says_beforehand_is_what_is_judged() -> None:
    from harness.judge.operations.ab.effects import TOGETHER
    from harness.scenario.operations.ab_units import MISSES

    assert MISSES == TOGETHER


def test_errors_are_always_compared(ab: Path) -> None:
    changed(ab, "  - {metric: errors, margin: 1pp}\n", "")
    assert [one.metric for one in loaded(ab).metrics] == ["response_time.p50", "errors"]
    assert [one.words for one in AbTest.model_fields["metrics"].default] == [
        "errors within 1pp", "response_time.p50 within 10%",
    ]  # fmt: skip


def test_through_an_ingress_no_version_is_named(ab: Path) -> None:
    changed(ab, "units: 400", 'units: 400\ningress: {url: "http://ingress:8080"}')
    scenario = loaded(ab)
    arm = scenario.arm("candidate", "http://ingress:8080")
    assert (arm.version, arm.headers) == (None, {"x-experiment": "B"})
    assert "which routes by the header" in scenario.steps[2]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 2", "version: 1", "b: expected two versions, two models or two servers"),
        ("units: 400", "units: 1", "units: expected a whole number from 2 up"),
        ("units: 400\n", "", "units: give units"),
        ("labelled: 30%", "labelled: 95%", "labelled: with analyse: hashed these units say nothing"),
        ("labelled: 30%", "split: 20%", r"metrics\.0: response_time\.p50 needs a split at 50%, found 20%"),
        ("labelled: 30%", "split: 0%", "split: expected 1% to 99%"),
        ("labelled: 30%", "activity: 3", "activity"),
        ("labelled: 30%", "header: x y", "header"),
        ("labelled: 30%", "seeed: 3", "did you mean seed"),
        ("margin: 1pp", "margin: 1%", "margin: expected percentage points"),
        ("margin: 10%", "margin: 0%", r"margin: expected a margin above 0%"),
        ("margin: 10%", "better: higher", r"better: of response_time\.p50 it is known which is better"),
        ("metric: errors, margin: 1pp", "metric: response_time", r"metrics\.1: response_time\.p50 is there twice"),
        ("metric: errors", "metric: goodput", "expected errors, osl, quality.score.NAME"),
        ("metric: errors", "metric: quality.score.right", "the name of a scorer"),
        ("metric: errors", "metric: icl.p50", "expected errors, osl"),
        ('target: {url: "http://triton:8000"}', "target: {}", r"a\.url: give target: .* or url: where it is"),
        ('target: {url: "http://triton:8000"}', 'ingress: {url: "http://i:1"}', "the Triton behind the ingress"),
        ("version: 2}", 'version: 2, build: fp8}', "b.build: only the embedded server has it"),
        ("version: 2}", 'version: 2, url: "grpc://h:1", api: generate}', "travels over HTTP"),
    ],
)  # fmt: skip
def test_mistakes(ab: Path, old: str, new: str, message: str) -> None:
    changed(ab, old, new)
    with pytest.raises(ScenarioError, match=message):
        load(ab)


@pytest.mark.parametrize(
    ("ingress", "message"),
    [
        ("{server: haproxy}", "go together"),
        ("{}", "give server: haproxy or envoy, or the url"),
        ('{server: haproxy, url: "http://i:1"}', "the one that is started has its own url"),
        ('{url: "http://i:1", control: "router"}', "expected haproxy"),
    ],
)
def test_mistakes_of_an_ingress(ab: Path, ingress: str, message: str) -> None:
    changed(ab, "units: 400", f"units: 400\ningress: {ingress}")
    with pytest.raises(ScenarioError, match=message):
        load(ab)


def test_two_models_and_two_servers(ab: Path) -> None:
    changed(ab, "b: {model: llm, version: 2}", "b: {model: llm-dpo}")
    assert loaded(ab).b.words == "llm-dpo"
    changed(ab, "b: {model: llm-dpo}", 'b: {model: llm, version: 1, url: "http://other:8000"}')
    assert loaded(ab).b.words == "llm version 1 at http://other:8000"


def test_arguments_of_the_command_line(ab: Path) -> None:
    builtin = load("ab-test", url="http://mine:8000", workers=3)
    assert isinstance(builtin, AbTest)
    assert (builtin.target.server, builtin.target.url, builtin.a.build, builtin.load.workers) == (
        None, "http://mine:8000", None, 3,
    )  # fmt: skip


def test_scorers_need_answers_to_expect(ab: Path) -> None:
    (ab.parent / "asked.jsonl").write_text('{"prompt": "1", "unit": "a", "expected": "one"}\n')
    changed(ab, "units: 400\nlabelled: 30%\nload: {rate: 20/s}", "load: {rate: 20/s, prompts: asked.jsonl}")
    changed(ab, "metric: errors, margin: 1pp", "metric: quality.score.right, margin: 3pp")
    changed(ab, "for: 60s", "for: 60s\nscorers: {right: {use: contains}}")
    scenario = loaded(ab)
    score = scenario.metrics[1]
    assert (score.direction, score.allowed, score.in_points) == ("higher", 0.03, True)
    (ab.parent / "asked.jsonl").write_text('{"prompt": "1", "unit": "a"}\n')
    with pytest.raises(ScenarioError, match="needs expected answers"):
        load(ab)
