"""Scorers, and the gates on quality: how they are written, and what they need."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from harness.errors import ScenarioError
from harness.scenario import Scenario, describe, json_schema, load, load_rules
from harness.types import Gate

BASE = """\
name: scored
target: {url: "grpc://triton:8001"}
baseline: {model: llm, version: 1}
candidate: {model: llm, version: 2}
load: {prompts: questions.jsonl}
scorers:
  answer: {use: exact}
gates:
  - {metric: quality.score, margin: 2pp}
stages:
  - {mode: paired, in_flight: 1, for: 90s}
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    lines = [{"prompt": f"{n}?", "expected": str(n) if n else {"name": "f"}} for n in range(200)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    path = tmp_path / "scored.yaml"
    path.write_text(BASE)
    return path


def read(path: Path, *changes: tuple[str, str]) -> Scenario:
    text = BASE
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    found = load(str(path))
    assert isinstance(found, Scenario)
    return found


def test_a_scorer_and_what_the_prompts_expect(written: Path) -> None:
    scenario = read(written)
    assert scenario.gates == (Gate("quality.score", 0.02, "absolute"),)
    assert scenario.prompts[7].expected == "7"
    assert scenario.prompts[0].expected == {"name": "f"}
    assert (scenario.keeps_texts, scenario.keeps_vectors, scenario.asks_logprob) == (True, False, False)
    assert scenario.load.logprobs == 0


def test_every_gate_as_it_is_written(written: Path) -> None:
    gates = (
        "- {metric: quality.perplexity, margin: 2%}\n  - {metric: quality.score.answer, margin: 1pp}\n"
        "  - {metric: quality.finish, margin: 3pp}\n  - {metric: quality.logprob, max: 0.02}\n"
        "  - {metric: quality.cosine, max: 0.01}\n  - {metric: quality.neighbours, max: 5%}"
    )
    scenario = read(written, ("- {metric: quality.score, margin: 2pp}", gates))
    assert scenario.gates == (
        Gate("quality.perplexity", 0.02),
        Gate("quality.score.answer", 0.01, "absolute"),
        Gate("quality.finish", 0.03, "absolute"),
        Gate("quality.logprob", limit=0.02),
        Gate("quality.cosine", limit=0.01),
        Gate("quality.neighbours", limit=0.05),
    )
    assert scenario.load.logprobs == 10
    assert (scenario.keeps_texts, scenario.keeps_vectors, scenario.asks_logprob) == (True, True, True)
    again = Scenario.model_validate(scenario.model_dump(mode="json", exclude_none=True))
    assert again.gates == scenario.gates
    assert again.scorers == scenario.scorers


def test_files_are_seen_from_the_scenario(written: Path) -> None:
    scorers = (
        "answer: {use: json, schema: schema.json}\n  mine: {use: 'own.py:score'}\n"
        "  theirs: {use: 'package.module:score'}\n  program: {command: [./score, -x], timeout: 5s}"
    )
    scenario = read(written, ("answer: {use: exact}", scorers), ("quality.score,", "quality.score.mine,"))
    assert scenario.scorers["answer"].schema_file == str(written.parent / "schema.json")
    assert scenario.scorers["mine"].use == f"{written.parent / 'own.py'}:score"
    assert scenario.scorers["theirs"].use == "package.module:score"
    assert Path(scenario.scorers["program"].folder) == written.parent
    assert (scenario.scorers["program"].command, scenario.scorers["program"].timeout_s) == (("./score", "-x"), 5.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("scorers:\n  answer: {use: exact}\n", "", "gates.0.metric: quality.score needs a scorer (such as"),
        (
            "answer: {use: exact}",
            "answer: {use: exact}\n  b: {use: json}",
            "gates.0.metric: there are 2 scorers: say which",
        ),
        ("quality.score,", "quality.score.other,", "quality.score.other: no such scorer; known are answer"),
        ("quality.score,", "quality.scores,", "did you mean quality.score?"),
        ("{use: exact}", "{}", "scorers.answer: give use (such as use: exact) or command, neither"),
        (
            "{use: exact}",
            "{use: exact, command: [x]}",
            "scorers.answer: give use (such as use: exact) or command, not both",
        ),
        ("{use: exact}", "{use: exact, pattern: x}", "scorers.answer.pattern: only regex has a pattern"),
        ("{use: exact}", "{use: regex, pattern: '('}", "scorers.answer.pattern: expected a regular expression"),
        ("{use: exact}", "{use: exact, schema: schema.json}", "scorers.answer.schema: only json has a schema"),
        ("{use: exact}", "{use: json, schema: nothing.json}", "scorers.answer.schema: expected a JSON Schema"),
        ("{use: exact}", "{use: ':x'}", "scorers.answer.use: expected module:function"),
        ("{use: exact}", "{use: exact, timeout: 0s}", "scorers.answer.timeout"),
        ("{use: exact}", "{uses: exact}", "scorers.answer.uses: unknown key; did you mean use?"),
        ("answer:", "An Answer:", "expected a name of small letters"),
        ("margin: 2pp", "margin: 2%", "gates.0.margin: expected percentage points such as 1pp"),
        ("margin: 2pp", "max: 2%", "gates.0.max: quality.score takes a margin, not max"),
        (", margin: 2pp", "", "gates.0: quality.score needs margin (such as margin: 2pp)"),
        ("quality.score, margin: 2pp", "quality.perplexity", "quality.perplexity needs margin (such as margin: 2%)"),
        ("quality.score, margin: 2pp", "quality.cosine, margin: 2%", "quality.cosine needs max (such as max: 0.01)"),
        ("mode: paired, in_flight: 1", "mode: split, candidate: 10%, rate: 1/s", "needs a paired or interleaved stage"),
        ("load: {prompts: questions.jsonl}", "load: {}", "needs load.prompts"),
    ],
)
def test_one_line_says_where_and_what(written: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        read(written, (old, new))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_is_compared_with_nothing_is_said(written: Path) -> None:
    (written.parent / "questions.jsonl").write_text('{"prompt": "1?"}\n')
    with pytest.raises(ScenarioError, match=r"scorers.answer: exact needs expected answers in load.prompts"):
        read(written)
    assert read(written, ("{use: exact}", "{use: json}")).scorers["answer"].use == "json"


def test_check_says_how_many_prompts_it_takes(written: Path) -> None:
    enough, few = describe(read(written, ("2pp", "3pp"))).gates[0], describe(read(written, ("2pp", "1pp"))).gates[0]
    assert (enough.needs, enough.rule) == (122, "quality.score at most 3pp worse than the baseline's")
    assert (few.enough, few.sentence) == (False, "needs 364 different prompts: there are 200")


def test_answers_are_kept_for_information_where_that_is_asked_for(written: Path) -> None:
    scenario = read(
        written, ("scorers:\n  answer: {use: exact}\n", ""), ("quality.score, margin: 2pp", "errors"),
        ("load: {prompts: questions.jsonl}", "load: {prompts: questions.jsonl, outputs: true}"),
    )  # fmt: skip
    assert (scenario.keeps_texts, scenario.keeps_vectors) == (True, True)
    plain = read(written, ("scorers:\n  answer: {use: exact}\n", ""), ("quality.score, margin: 2pp", "errors"))
    assert (plain.keeps_texts, plain.keeps_vectors) == (False, False)


def test_rules_of_a_judge_may_name_them(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("gates:\n  - {metric: quality.score.json, margin: 1pp}\n  - {metric: quality.cosine, max: 0.02}\n")
    assert load_rules(rules) == (Gate("quality.score.json", 0.01, "absolute"), Gate("quality.cosine", limit=0.02))


def test_editors_know_scorers() -> None:
    schema = json_schema()
    scorer = schema["$defs"]["ScorerConfig"]
    assert set(scorer["properties"]) == {"use", "command", "pattern", "schema", "timeout", "folder"}
    whole = {"name": "a", "baseline": {"model": "m", "version": 1}, "candidate": {"model": "m", "version": 2},
             "stages": [{"mode": "paired", "in_flight": 1, "for": "9s"}]}  # fmt: skip
    jsonschema.validate({**whole, "scorers": {"answer": {"use": "exact"}}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**whole, "scorers": {"answer": {"uses": "exact"}}}, schema)
