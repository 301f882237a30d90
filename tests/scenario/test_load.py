"""Loading: the vocabulary, and one clear line with the place for everything that is wrong."""

import json
import os
from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario import Scenario, load
from harness.types import Gate, Prompt
from tests.scenario.conftest import changed


def refusal(path: Path, overrides: tuple[str, ...] = ()) -> ScenarioError:
    with pytest.raises(ScenarioError) as caught:
        load(str(path), overrides)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return caught.value


def refused(path: Path, *overrides: str) -> str:
    return str(refusal(path, overrides)).removeprefix(f"{path}:")


def test_the_issues_example_is_read_as_it_stands(scenario_file: Path) -> None:
    scenario = load(str(scenario_file))
    assert scenario.name == "fp8-canary"
    assert scenario.target.server == "embedded"
    assert (scenario.candidate.model, scenario.candidate.version, scenario.candidate.build) == (
        "smollm2",
        2,
        "fp8",
    )
    assert [prompt.text for prompt in scenario.prompts] == ["One?", "Two?", "Three?"]
    assert (scenario.load.max_tokens, scenario.load.timeout_s, scenario.load.logprobs) == (8, 30.0, 10)
    assert scenario.gates == (
        Gate("errors", 0.03, "absolute"),
        Gate("ttft.p50", 0.1),
        Gate("tpot.p50", 0.1),
        Gate("quality.kl", limit=0.06),
    )
    assert [stage.duration_s for stage in scenario.stages] == [90.0, 20.0, 30.0, 20.0]
    assert [stage.share for stage in scenario.stages] == [0.5, 0.1, 0.5, 1.0]
    assert scenario.on_fail is not None
    assert scenario.on_fail.unload == "candidate"
    assert scenario.on_promote is not None
    assert (scenario.on_promote.keep_baseline_s, scenario.on_promote.then) == (10.0, "unload")
    assert scenario.telemetry.interval_s == 1.0


def test_a_dumped_scenario_can_be_run_again(scenario_file: Path, tmp_path: Path) -> None:
    scenario = load(str(scenario_file), ["stages.1.rate=20/m", "load.timeout=1h", "gates.1.margin=7.5%"])
    again = tmp_path / "again.yaml"
    again.write_text(json.dumps(scenario.model_dump(mode="json")))
    assert load(str(again)) == scenario
    assert scenario.model_dump(mode="json")["stages"][0]["for"] == "90s"


def test_a_server_that_runs_already(scenario_file: Path) -> None:
    changed(scenario_file, "server: embedded", 'url: "grpc://triton:8001/", repository: models')
    changed(scenario_file, ", build: fp8", "")
    scenario = load(str(scenario_file))
    assert scenario.target.url == "grpc://triton:8001"
    assert scenario.target.repository == str(scenario_file.parent / "models")
    assert scenario.target.url_of(scenario.candidate) == "grpc://triton:8001"


def test_logprobs_only_where_quality_is_judged(scenario_file: Path) -> None:
    changed(scenario_file, "  - {metric: quality.kl, max: 0.06}\n", "")
    assert load(str(scenario_file)).load.logprobs == 0
    assert load(str(scenario_file), ["load.logprobs=3"]).load.logprobs == 3


def test_a_scenario_cannot_be_changed(scenario_file: Path) -> None:
    scenario = load(str(scenario_file))
    with pytest.raises(ValueError, match="frozen"):
        scenario.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_tokens: 8}", "max_token: 8}", "5:42: load.max_token: unknown key; did you mean max_tokens?"),
        ("name: fp8-canary", "nam: x", "1:1: nam: unknown key; did you mean name?"),
        ("then: unload}", "after: 1}", "17:34: on_promote.after: unknown key; known here: keep_baseline, then"),
        ("rate: 1/s, for: 30s", "rate: 0, for: 30s", "14:41: stages.2.rate: expected a rate above 0 such as 1/s or 30/m, found 0"),  # noqa: E501
        ("candidate: 10%", "candidate: 110%", "13:30: stages.1.candidate: expected a share from 0% to 100%, found '110%'"),  # noqa: E501
        ("version: 2", "version: two", "4:38: candidate.version: expected a whole number, found 'two'"),
        ("version: 2", "version: 0", "4:38: candidate.version: expected a whole number from 1 up, found 0"),
        ("version: 2", "version: true", "4:38: candidate.version: expected a whole number, found true"),
        ("version: 2, build: fp8", "version: 1", "4:38: candidate.version: expected another version, model or server"),
        ("for: 90s", "for: 90", "12:39: stages.0.for: expected a duration such as 90s, 2m or 250ms, found 90"),
        ("for: 90s", "for: 0s", "12:39: stages.0.for: expected 1ms to 7d, found 0s"),
        (", for: 90s", "", "12:5: stages.0.for: is missing"),
        ("mode: paired", "mode: pair", "12:12: stages.0.mode: expected 'paired', 'interleaved', 'split' or 'sequential', found 'pair'"),  # noqa: E501
        ("in_flight: 1, ", "", "12:5: stages.0: give rate (such as rate: 1/s) or in_flight"),
        ("in_flight: 1", "in_flight: 1, rate: 1/s", "12:31: stages.0.in_flight: give rate or in_flight, not both"),
        ("in_flight: 1", "in_flight: 1, arrival: poisson", "12:43: stages.0.arrival: needs a rate"),
        ("in_flight: 1", "in_flight: 0", "12:31: stages.0.in_flight: expected a whole number from 1 up, found 0"),
        ("candidate: 10%, ", "", "13:5: stages.1: a split needs the candidate's share"),
        ("mode: paired", "mode: paired, candidate: 5%", "12:31: stages.0.candidate: only a split has shares"),
        ("prompts/questions.jsonl", "none.jsonl", "5:17: load.prompts: expected a file of prompts, found no file "),
        ("prompts/questions.jsonl", "prompts", "5:17: load.prompts: expected a file of prompts, found "),
        ("metric: errors", "metric: error", "7:14: gates.0.metric: expected a metric ("),
        ("metric: errors, margin: 3pp", "metric: goodput, margin: 5%", "7:5: gates.0: goodput needs within (such as"),
        ("metric: ttft.p50", "metric: icl.p51", "8:14: gates.1.metric: expected a metric"),
        ("metric: ttft.p50", "metric: tpot", "9:14: gates.2.metric: tpot.p50 is gated twice"),
        ("margin: 3pp", "margin: 3%", "7:30: gates.0.margin: expected percentage points such as 1pp"),
        ("margin: 3pp", "margin: 3pp, max: 1%", "7:40: gates.0.max: give margin or max, not both"),
        ("max: 0.06", "margin: 10%", "10:5: gates.3: quality.kl needs max (such as max: 0.06)"),
        ("max: 0.06", "max: 6%", "10:31: gates.3.max: expected a number from 0 up such as 0.06, found '6%'"),
        ("prompts: prompts/questions.jsonl, ", "", "10:14: gates.3.metric: quality.kl needs load.prompts"),
        ("max_tokens: 8", "max_tokens: 8, logprobs: 0", "5:67: load.logprobs: quality.kl needs log-probabilities"),
        ("mode: paired", "mode: interleaved", "10:14: gates.3.metric: quality.kl needs a paired stage"),
        ("server: embedded", "server: embeded", "2:18: target.server: expected 'embedded', found 'embeded'"),
        ("server: embedded", 'server: embedded, url: "grpc://a:1"', "2:33: target.url: the embedded server has its own url"),  # noqa: E501
        ("server: embedded", 'url: "grpc://a:1"', "4:48: candidate.build: only the embedded server builds models"),
        ("server: embedded", "url: triton", "2:15: target.url: expected grpc://host:port or http://host:port or grpcs://host:port or https://host:port, found 'triton'"),  # noqa: E501
        ("server: embedded", 'url: "grpc://triton"', "2:15: target.url: expected grpc://host:port or http://host:port or grpcs://host:port or https://host:port, found 'grpc://triton': no port"),  # noqa: E501
        ("server: embedded", 'url: "grpc://a:99999"', "2:15: target.url: expected grpc://host:port"),
        ("{server: embedded}", "{}", "2:9: target: give server: embedded, or the url of a Triton"),
        ("{server: embedded}", "embedded", "2:9: target: expected a mapping (key: value), found 'embedded'"),
        ("keep_baseline: 10s", "keep_baseline: 25h", "17:29: on_promote.keep_baseline: expected 1ms to 1d, found 25h"),
        ("candidate: 100%", "candidate: 99%", "17:13: on_promote: needs a last stage that is a split with candidate: 100%"),  # noqa: E501
        ("then: unload", "then: delete", "17:40: on_promote.then: expected 'unload' or 'stop', found 'delete'"),
        ("name: fp8-canary", "name: a/b", "1:7: name: expected a name of letters, digits, . _ -, found 'a/b'"),
        ("model: smollm2, version: 1}", "version: 1}", "3:11: baseline.model: is missing"),
        ("baseline: {model: smollm2, version: 1}", "baseline: {model: smollm2}", "3:11: baseline: the embedded server needs the number of the version"),  # noqa: E501
        ("on_fail: {", "on_fail: {[a]: 1, ", "16:11: on_fail: expected a word as key"),
        ("max_tokens: 8}", "max_tokens: 8, max_tokens: 9}", "5:57: load.max_tokens: is here twice (first in line 5)"),
        ("gates:\n", "gates: [\n", "7:3: is not YAML: "),
        ("name: fp8-canary", "name: *x", "1:7: is not YAML: found undefined alias 'x'"),
        ("name: fp8-canary", "---\nname: x\n---", "3:1: is not YAML: but found another document"),
    ],
)  # fmt: skip
def test_one_line_says_where_and_what(scenario_file: Path, old: str, new: str, expected: str) -> None:
    message = refused(changed(scenario_file, old, new))
    assert message.startswith(expected), message


def test_an_error_carries_its_place(scenario_file: Path) -> None:
    error = refusal(changed(scenario_file, "candidate: 10%", "candidate: 110%"))
    assert (error.file, error.line, error.column, error.key) == (
        str(scenario_file),
        13,
        30,
        "stages.1.candidate",
    )


def test_the_misspelt_key_goes_before_what_is_missing(scenario_file: Path) -> None:
    assert refused(changed(scenario_file, "stages:\n", "stagse:\n")).startswith(
        "11:1: stagse: unknown key; did you mean stages?"
    )


def test_no_stage(scenario_file: Path) -> None:
    text = scenario_file.read_text()
    scenario_file.write_text(text[: text.index("stages:")] + "stages: []\n")
    assert refused(scenario_file) == "11:9: stages: expected at least one entry, found none"


def test_a_margin_on_latency_needs_equal_shares(scenario_file: Path) -> None:
    text = scenario_file.read_text()
    for line in ("paired, in_flight: 1, for: 90s", "split, candidate: 50%, rate: 1/s, for: 30s"):
        text = text.replace(f"  - {{mode: {line}}}\n", "")
    scenario_file.write_text(text.replace("  - {metric: quality.kl, max: 0.06}\n", ""))
    assert "gates.1.metric: a margin on ttft.p50 needs a paired or interleaved stage" in refused(scenario_file)
    load(str(scenario_file), ["gates=[{metric: ttft.p50, max: 300ms}]"])


def test_two_arms_of_one_model_without_a_version(scenario_file: Path) -> None:
    changed(scenario_file, "server: embedded", 'url: "grpc://triton:8001"')
    changed(scenario_file, "version: 2, build: fp8", 'headers: {a: "b"}')
    assert refused(scenario_file).startswith("4:12: candidate: expected the number of the version")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("oops", ":2:1: expected a line such as"),
        ('{"text": "x"}', ':2: expected a line such as {"prompt": "..."}, found the keys \'text\''),
        ('["x"]', ':2: expected a line such as {"prompt": "..."}, found a list'),
        ('{"prompt": ""}', ":2: prompt: expected some text, found ''"),
        ('{"prompt": 3}', ":2: prompt: expected some text, found 3"),
        ('{"prompt": "\\ud800"}', ":2: prompt: expected text, found half a character"),
    ],
)
def test_a_bad_line_of_the_prompts_is_named(scenario_file: Path, line: str, expected: str) -> None:
    prompts = scenario_file.parent / "prompts" / "questions.jsonl"
    prompts.write_text(f'{{"prompt": "One?"}}\n{line}\n')
    assert str(refusal(scenario_file)).startswith(f"{prompts}{expected}")


def test_prompts_that_are_not_text(scenario_file: Path) -> None:
    (scenario_file.parent / "prompts" / "questions.jsonl").write_bytes(b'{"prompt": "\xff"}\n')
    assert "questions.jsonl:1: expected a line" in str(refusal(scenario_file))


def test_no_prompts_in_the_file(scenario_file: Path) -> None:
    (scenario_file.parent / "prompts" / "questions.jsonl").write_text("\n\n")
    assert refused(scenario_file).startswith("5:17: load.prompts: expected a file of prompts, found no prompt in ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected a scenario (key: value), found nothing"),
        (b"- a\n", "1:1: expected a scenario (key: value), found a list"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"name: \x00", "is not YAML"),
    ],
)
def test_files_that_are_no_scenario(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    assert expected in refused(path)


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    assert "is too large or too deep for a scenario" in refused(path)
    path.write_text("a: &a [*a]\n")
    assert refused(path)


def test_names_and_files_that_are_not_there(tmp_path: Path) -> None:
    for name, expected in [
        ("nightly", "nightly: no such scenario: it is no file, and the built-in ones are ab-test, blue-green, deploy-"),
        ("none.yaml", "none.yaml: no such file"),
        ("dir/none", "dir/none: no such file"),
        (str(tmp_path), f"{tmp_path}: expected a scenario file, found a folder"),
    ]:
        assert str(refusal(Path(name))).startswith(expected)


def test_set_changes_values_and_adds_keys(scenario_file: Path) -> None:
    scenario = load(
        str(scenario_file),
        [
            "stages.0.for=30s",
            "candidate.build=slow",
            "gates.3={metric: quality.flips, max: 5%}",
            "telemetry.interval=250ms",
            "on_promote=",
            "baseline.headers.x-team=red",
        ],
        seed=9,
    )
    assert scenario.stages[0].duration_s == 30.0
    assert scenario.candidate.build == "slow"
    assert scenario.gates[3] == Gate("quality.flips", limit=0.05)
    assert scenario.telemetry.interval_s == 0.25
    assert scenario.on_promote is None
    assert scenario.baseline.headers == {"x-team": "red"}
    assert scenario.seed == 9


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("stages.0.for=30x", "--set stages.0.for=30x: stages.0.for: expected a duration"),
        ("stages.9.for=30s", "--set stages.9.for=30s: stages.9: expected the number of an entry, found '9' (it has entries 0 to 3)"),  # noqa: E501
        ("stages.first.for=30s", "--set stages.first.for=30s: stages.first: expected the number of an entry, found 'first'"),  # noqa: E501
        ("name.x=1", "--set name.x=1: name.x: name is a single value"),
        ("candidte.build=x", "--set candidte.build=x: candidte: unknown key; did you mean candidate?"),
        ("stages.0={mode: paired}", "--set stages.0={mode: paired}: stages.0.for: is missing"),
        ("candidate.version=1", "--set candidate.version=1: candidate.version: expected another version"),
        ("load.prompts=none.jsonl", "--set load.prompts=none.jsonl: load.prompts: expected a file of prompts, found no file none.jsonl"),  # noqa: E501
        ("nothing", "--set nothing: expected KEY=VALUE such as stages.0.for=30s"),
        ("a..b=1", "--set a..b=1: expected KEY=VALUE"),
        ("name=[", "--set name=[:1:"),
    ],
)  # fmt: skip
def test_a_wrong_set_names_the_argument(scenario_file: Path, argument: str, expected: str) -> None:
    assert refused(scenario_file, argument).startswith(expected)


def test_a_path_in_an_argument_is_seen_from_here(
    scenario_file: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    (here / "mine.jsonl").write_text('{"prompt": "Mine?"}\n')
    monkeypatch.chdir(here)
    assert load(str(scenario_file), ["load.prompts=mine.jsonl"]).prompts == (Prompt("Mine?"),)
    relative = os.path.relpath(scenario_file, here)
    assert load(relative).prompts == (Prompt("One?"), Prompt("Two?"), Prompt("Three?"))


def test_gates_have_default_margins(scenario_file: Path) -> None:
    scenario: Scenario = load(str(scenario_file), ["gates=[{metric: errors}, {metric: ttft}, {metric: osl}]"])
    assert scenario.gates == (Gate("errors", 0.01, "absolute"), Gate("ttft.p50", 0.1), Gate("osl", 0.1))
