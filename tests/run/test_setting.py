"""What run.json says of a scenario before anything runs."""

import hashlib
import json
from pathlib import Path

from harness.run.setting import describe
from harness.scenario import Scenario, load
from tests.tokenizer import write_tokenizer

FILE = """\
name: loads
target: {url: "grpcs://host:8001"}
baseline: {model: llm, version: 1, headers: {authorization: secret}, tls: {ca: ca.pem}}
candidate: {model: llm, version: 2}
stable: {model: old, headers: {authorization: secret}, tls: {ca: ca.pem}}
load: {trace: t.csv}
stages:
  - {mode: paired, sweep: {rate: [1/s, 2/s]}, for: 9s, warm_up: 1s}
  - {mode: split, candidate: 10%, baseline: 10%, arrival: trace}
"""


def test_whose_tokenizer_counted_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("timestamp,input_length,output_length\n0,3,1\n1,4,2\n")
    file, path = write_tokenizer(tmp_path), tmp_path / "loads.yaml"
    path.write_text(FILE.replace("t.csv", "t.csv, tokenizer: tokenizer.json"))
    scenario = load(str(path))
    assert isinstance(scenario, Scenario)
    meta = describe(scenario)
    assert str(tmp_path) not in json.dumps(meta)
    assert meta["scenario"]["load"]["tokenizer"] == "tokenizer.json"
    assert meta["tokens"] == {
        "counted_by": "the engine; where it does not, tokenizer.json",
        "tokenizer_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }


def test_no_secret_no_folder_and_the_plan_in_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("timestamp,input_length,output_length\n0,3,1\n1,4,2\n")
    path = tmp_path / "loads.yaml"
    path.write_text(FILE)
    scenario = load(str(path))
    assert isinstance(scenario, Scenario)
    meta = describe(scenario)
    text = json.dumps(meta)
    assert "secret" not in text
    assert str(tmp_path) not in text
    assert meta["planned"] == 3  # the sweep's two, and the replay; warm-ups are not the scenario's own
    assert meta["prompts"]["count"] == 2
    assert meta["scenario"]["load"]["trace"] == "t.csv"
    assert meta["tokens"] == {"counted_by": "the engine"}
    longer = tmp_path / "t.csv"
    longer.write_text("timestamp,input_length,output_length\n0,3,1\n1,4,3\n")
    again = load(str(path))
    assert isinstance(again, Scenario)
    assert describe(again)["prompts"]["sha256"] != meta["prompts"]["sha256"]


def test_scorers_are_there_without_their_folders(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a", "expected": "b"}\n')
    (tmp_path / "schema.json").write_text("{}")
    scorers = '{a: {use: "a.py:f"}, b: {use: json, schema: schema.json}, c: {command: [./c]}}'
    path = tmp_path / "loads.yaml"
    path.write_text(
        "name: scored\ntarget: {url: 'grpc://host:8001'}\nbaseline: {model: llm, version: 1}\n"
        f"candidate: {{model: llm, version: 2}}\nload: {{prompts: prompts.jsonl}}\nscorers: {scorers}\n"
        "stages: [{mode: paired, rate: 1/s, for: 9s}]\n"
    )
    scenario = load(str(path))
    assert isinstance(scenario, Scenario)
    meta = describe(scenario)
    assert str(tmp_path) not in json.dumps(meta)
    found = meta["scenario"]["scorers"]
    assert (found["a"]["use"], found["b"]["schema"], found["c"]["command"]) == ("a.py:f", "schema.json", ["./c"])
