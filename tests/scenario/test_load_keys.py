"""What is sent: the keys of `load` and of the arms, and that a dumped file can be run again."""

import json
from pathlib import Path

import jsonschema
import pytest

from harness.errors import ScenarioError
from harness.scenario import Scenario, describe, json_schema, load
from harness.tokens import counter
from harness.types import Prompt, Tls
from tests.tokenizer import write_tokenizer

TOP = """\
name: loads
target: {url: "grpcs://host:8001"}
baseline: {model: llm, version: 1, tls: {ca: ca.pem, cert: us.pem, key: us.key, server_name: triton}}
candidate: {model: llm, version: 2, url: "https://host:8000", api: openai, stream: false}
stages: [{mode: paired, in_flight: 1, for: 9s}]
"""


def read(folder: Path, more: str = "", top: str = TOP, overrides: tuple[str, ...] = ()) -> Scenario:
    path = folder / "loads.yaml"
    path.write_text(f"{top}{more}")
    found = load(str(path), overrides)
    assert isinstance(found, Scenario)
    return found


def refused(folder: Path, more: str = "", top: str = TOP) -> str:
    with pytest.raises(ScenarioError) as caught:
        read(folder, more, top)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder}/loads.yaml:")


def test_arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = read(tmp_path)
    assert (scenario.baseline.api, scenario.baseline.stream) == ("kserve", True)
    assert (scenario.candidate.api, scenario.candidate.stream) == ("openai", False)
    assert scenario.candidate.url == "https://host:8000"
    assert scenario.baseline.tls
    here = str(tmp_path)
    assert scenario.baseline.tls.tls() == Tls(f"{here}/ca.pem", f"{here}/us.pem", f"{here}/us.key", "triton")
    monkeypatch.chdir("/")
    given = read(tmp_path, overrides=("baseline.tls.ca=mine.pem",)).baseline.tls
    assert given
    assert (given.ca, given.cert) == ("mine.pem", f"{here}/us.pem")


def test_defaults_change_nothing(tmp_path: Path) -> None:
    wanted = read(tmp_path).load
    assert (wanted.workers, wanted.on_worker_lost, wanted.chunks, wanted.cache) == (1, "stop", False, "as-is")
    assert (wanted.connections, wanted.shapes, wanted.given, wanted.speed, wanted.asks) == (None, {}, (), 1.0, False)


def test_everything_at_once(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"IN": [1, 2]}\n{"IN": [3, 4]}\n')
    wanted = read(
        tmp_path,
        "load: {inputs: rows.jsonl, shapes: {IN: [2], MASK: []}, cache: warm, connections: 8, workers: 4, "
        "on_worker_lost: continue, chunks: true}\n",
    ).load
    assert wanted.given == ({"IN": [1, 2]}, {"IN": [3, 4]})
    assert wanted.shapes == {"IN": (2,), "MASK": ()}
    assert (wanted.cache, wanted.connections, wanted.workers, wanted.on_worker_lost) == ("warm", 8, 4, "continue")
    assert wanted.chunks is True


def test_synthetic_prompts(tmp_path: Path) -> None:
    more = "load: {synthetic: {prompts: 50, input_tokens: lognormal 60 0.4, output_tokens: uniform 5 9}}\n"
    prompts = read(tmp_path, more).prompts
    lengths = [len(prompt.text.split()) for prompt in prompts]
    assert len(prompts) == 50
    assert 45 < sorted(lengths)[25] < 75
    assert {prompt.max_tokens for prompt in prompts} == {5, 6, 7, 8, 9}
    assert read(tmp_path, more).prompts == prompts
    assert read(tmp_path, more + "seed: 2\n").prompts != prompts


@pytest.mark.parametrize("source", ["prompts: p.jsonl", "trace: t.csv", "synthetic: {prompts: 3, input_tokens: 30}"])
def test_one_tokenizer_counts_wherever_prompts_come_from(tmp_path: Path, source: str) -> None:
    file = write_tokenizer(tmp_path)
    count = counter(file.read_text(), "")
    (tmp_path / "p.jsonl").write_text('{"prompt": "Grüße an alle", "max_tokens": 5}\n')
    (tmp_path / "t.csv").write_text("timestamp,input_length,output_length\n0,30,1\n1.5,40,2\n")
    scenario = read(tmp_path, f"load: {{{source}, tokenizer: tokenizer.json}}\n")
    assert [prompt.tokens for prompt in scenario.prompts] == [count(prompt.text) for prompt in scenario.prompts]
    assert scenario.tokenizer == file.read_text()
    assert describe(scenario).counted == f"the tokenizer {file}"
    # Without it nobody has counted.
    without = read(tmp_path, f"load: {{{source}}}\n")
    assert (without.tokenizer, {prompt.tokens for prompt in without.prompts}) == ("", {None})
    if "synthetic" in source:
        there = read(tmp_path, f"load: {{{source.replace('}', ', tokenizer: tokenizer.json}')}}}\n")
        assert (there.prompts, there.tokenizer) == (scenario.prompts, scenario.tokenizer)


def test_prompts_of_a_file_may_have_limits_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "One?"}\n{"prompt": "Two?", "max_tokens": 5}\n')
    assert read(tmp_path, "load: {prompts: p.jsonl}\n").prompts == (Prompt("One?"), Prompt("Two?", 5))


def test_a_dumped_scenario_can_be_run_again(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("timestamp,input_length,output_length\n0,3,1\n1.5,4,2\n")
    top = TOP.replace(
        "[{mode: paired, in_flight: 1, for: 9s}]",
        """
  - {mode: paired, arrival: trace, warm_up: 2s}
  - {mode: paired, rate: 20/m, to: 100/s, for: 30s, arrival: gamma, burstiness: 0.25}
  - {mode: interleaved, in_flight: 1, to: 4, for: 30s}
  - {mode: interleaved, steps: [1, 2, 4], for: 30s}
  - {mode: paired, sweep: {from: 10/s, to: 160/s, count: 5, spacing: linear}, for: 60s}
  - {mode: paired, sweep: {in_flight: [1, 2]}, for: 60s}
  - {mode: split, candidate: 10%, baseline: 12.5%, rate: 50/s, for: 60s}""",
    )
    scenario = read(tmp_path, "load: {trace: t.csv, speed: 1.5x, workers: 2}\n", top)
    again = tmp_path / "again.yaml"
    dumped = scenario.model_dump(mode="json")
    again.write_text(json.dumps(dumped))
    assert load(str(again)) == scenario
    assert dumped["load"]["speed"] == "1.5x"
    assert (dumped["stages"][1]["rate"], dumped["stages"][1]["to"]) == ("20/m", "100/s")
    assert dumped["stages"][2]["to"] == 4
    assert dumped["stages"][4]["sweep"]["from"] == "10/s"
    synthetic = read(tmp_path, "load: {synthetic: {input_tokens: lognormal 60 0.4, output_tokens: 7}}\n")
    again.write_text(json.dumps(synthetic.model_dump(mode="json")))
    assert load(str(again)) == synthetic
    assert synthetic.model_dump(mode="json")["load"]["synthetic"] == {
        "prompts": 200, "input_tokens": "lognormal 60 0.4", "output_tokens": 7, "tokenizer": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("load: {cache: none}\n", "6:15: load.cache: expected 'as-is', 'unique' or 'warm', found 'none'"),
        ("load: {cache: unique}\n", "6:15: load.cache: what is made unique is a prompt: give prompts"),
        ("load: {workers: 0}\n", "6:17: load.workers: expected a whole number from 1 up, found 0"),
        ("load: {on_worker_lost: wait}\n", "6:24: load.on_worker_lost: expected 'continue' or 'stop', found 'wait'"),
        ("load: {connections: many}\n", "6:21: load.connections: expected a whole number, found 'many'"),
        ("load: {chunks: 1}\n", "6:16: load.chunks: expected true or false, found 1"),
        ("load: {speed: 2x}\n", "6:15: load.speed: only a trace is replayed; add trace, or remove speed"),
        ("load: {speed: 2}\n", "6:15: load.speed: expected a factor above 0 such as 2x or 0.5x, found 2"),
        ("load: {trace: t.csv}\n", "6:15: load.trace: expected a trace, found no file"),
        ("load: {inputs: i.jsonl}\n", "6:16: load.inputs: expected a file of inputs, found"),
        ("load: {prompts: p.jsonl, trace: t.csv}\n", "6:33: load.trace: give prompts or trace, not both"),
        ("load: {shapes: {IN: [0]}}\n", "6:21: load.shapes.IN: expected sizes from 1 up such as [3, 224, 224]"),
        ("load: {arrival: bursty}\n", "6:17: load.arrival: expected 'poisson', 'constant' or 'gamma', found 'bursty'"),
        ("load: {burstiness: 0.5}\n", "6:20: load.burstiness: only gamma arrivals have it; found arrival: poisson"),
        ("load: {synthetic: {}}\n", "6:19: load.synthetic.input_tokens: is missing"),
        ("load: {synthetic: {input_tokens: normal 512}}\n", "6:34: load.synthetic.input_tokens: expected tokens such as 512, uniform 100 1000"),  # noqa: E501
        ("load: {synthetic: {input_tokens: uniform 9 5}}\n", "6:34: load.synthetic.input_tokens: expected tokens"),
        ("load: {synthetic: {input_tokens: 0}}\n", "6:34: load.synthetic.input_tokens: expected tokens such as"),
        ("load: {synthetic: {input_tokens: 5, tokenizer: t.json}}\n", "6:48: load.synthetic.tokenizer: expected a tokenizer.json, found"),  # noqa: E501
        ("load: {tokenizer: t.json}\n", "6:19: load.tokenizer: it counts what prompts ask and are answered: give"),
        ("load: {synthetic: {input_tokens: 5}, tokenizer: t.json}\n", "6:49: load.tokenizer: expected a tokenizer.json, found"),  # noqa: E501
        ("load: {synthetic: {input_tokens: 5}, tokenizer: loads.yaml}\n", "6:49: load.tokenizer: "),
        ("load: {synthetic: {input_tokens: 5, tokenizer: t.json}, tokenizer: t.json}\n", "6:68: load.tokenizer: give tokenizer or synthetic.tokenizer, not both"),  # noqa: E501
        ("load: {synthetic: {input_token: 5}}\n", "6:20: load.synthetic.input_token: unknown key; did you mean"),
    ],
)  # fmt: skip
def test_one_line_says_where_and_what(tmp_path: Path, more: str, expected: str) -> None:
    message = refused(tmp_path, more)
    assert message.startswith(expected), message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("api: openai", "api: rest", "4:68: candidate.api: expected 'kserve', 'generate' or 'openai', found 'rest'"),
        ("https://host:8000", "grpc://host:8000", "4:67: candidate.api: the openai api travels over HTTP; found grpc://"),
        ("grpcs://host:8001", "grpc://host:8001", "3:41: baseline.tls: only grpcs:// and https:// use certificates"),
        ("cert: us.pem, ", "", "3:59: baseline.tls.key: a key without a certificate; give cert, too"),
        ("ca: ca.pem", "cafile: ca.pem", "3:42: baseline.tls.cafile: unknown key; known here: ca, cert"),
        ("stream: false", "stream: no way", "4:84: candidate.stream: expected true or false, found 'no way'"),
    ],
)  # fmt: skip
def test_an_arm_that_cannot_be_reached_so(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert TOP.count(old) == 1
    message = refused(tmp_path, top=TOP.replace(old, new))
    assert message.startswith(expected), message


def test_the_embedded_server_has_no_certificates(tmp_path: Path) -> None:
    top = TOP.replace('{url: "grpcs://host:8001"}', "{server: embedded}").replace(', url: "https://host:8000"', "")
    assert refused(tmp_path, top=top).startswith("3:41: baseline.tls: the embedded server has no certificates")


def test_editors_know_the_keys(tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    whole = {
        "name": "x",
        "target": {"url": "grpc://h:1"},
        "baseline": {"model": "m", "version": 1},
        "candidate": {"model": "m", "version": 2, "tls": {"ca": "x"}},
        "load": {
            "shapes": {"IN": [3]}, "synthetic": {"input_tokens": "normal 5 1", "output_tokens": 3}, "workers": 2,
        },
        "stages": [
            {"mode": "paired", "rate": "1/s", "to": "9/s", "for": "9s"},
            {"mode": "paired", "in_flight": 1, "to": 9, "for": "9s"},
            {"mode": "paired", "sweep": {"from": 1, "to": 9, "count": 3}, "for": "9s"},
            {"mode": "paired", "steps": [1, 2], "for": "9s", "warm_up": "1s"},
        ],
    }  # fmt: skip
    assert list(validator.iter_errors(whole)) == []
    for section, key, value in [
        ("load", "workers", "two"), ("load", "shapes", {"IN": [0]}), ("load", "synthetic", {"input_tokens": "many"}),
    ]:  # fmt: skip
        wrong = {**whole, section: {key: value}}
        assert list(validator.iter_errors(wrong)), (key, value)
    assert list(validator.iter_errors({**whole, "stages": [{"mode": "paired", "steps": ["x"], "for": "9s"}]}))
