"""Operations as files: what they accept, what they say of mistakes, how they are shown."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from harness.errors import ScenarioError
from harness.scenario import MultiRegion, RepoSync, RetireModel, built_in, describe, json_schema, load
from harness.scenario.document import read

SYNC = """\
kind: repo-sync
name: nightly
store: {url: "s3://models/prod", endpoint: "http://127.0.0.1:8333"}
target: {url: "grpcs://triton:8001", repository: models}
models: [llm, ranker]
load: latest
"""

REGIONS = """\
kind: multi-region
name: everywhere
store: {url: store}
model: llm
version: 7
probes: 2
regions:
  - {name: eu-west-1, url: "grpc://eu:8001", repository: eu}
  - {name: us-east-1, url: "grpc://us:8001", repository: /mnt/us}
"""

RETIRE = """\
kind: retire-model
name: gone
target: {url: "grpc://triton:8001", repository: models}
model: llm
version: 3
window: 10m
then: remove
"""

FILES = {"sync": SYNC, "regions": REGIONS, "retire": RETIRE}


def write(folder: Path, text: str) -> Path:
    path = folder / "operation.yaml"
    path.write_text(text)
    return path


def test_each_kind_is_read_and_its_paths_are_seen_from_its_file(tmp_path: Path) -> None:
    sync = load(write(tmp_path, SYNC))
    assert isinstance(sync, RepoSync)
    assert sync.target.repository == str(tmp_path / "models")
    assert (sync.store.url, sync.models, sync.load) == ("s3://models/prod", ("llm", "ranker"), "latest")
    regions = load(write(tmp_path, REGIONS))
    assert isinstance(regions, MultiRegion)
    assert [region.repository for region in regions.regions] == [str(tmp_path / "eu"), "/mnt/us"]
    assert regions.store.url == str(tmp_path / "store")
    assert regions.asked == ((1, None), (2, None))
    retire = load(write(tmp_path, RETIRE), ["archive=kept", "then=archive"])
    assert isinstance(retire, RetireModel)
    assert retire.window_s == 600
    assert retire.archive == "kept", "an argument's path is seen from here"
    assert (
        load(write(tmp_path, RETIRE), ['target={url: "grpc://other:1", repository: here}']).target.repository == "here"
    )


@pytest.mark.parametrize("name", FILES)
def test_what_is_dumped_can_be_read_again(tmp_path: Path, name: str) -> None:
    scenario = load(write(tmp_path, FILES[name]))
    dumped = scenario.model_dump(mode="json")
    assert type(scenario).model_validate(dumped) == scenario


def test_prompts_are_the_probes_of_a_token_model(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "One?"}\n{"prompt": "Two?"}\n{"prompt": "Three?"}\n')
    scenario = load(write(tmp_path, REGIONS + "prompts: p.jsonl\n"))
    assert isinstance(scenario, MultiRegion)
    assert scenario.asked == ((1, "One?"), (2, "Two?"))
    assert "ask 2 probes twice" in " ".join(scenario.steps)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "sync",
            "kind: repo-sync",
            "kind: repo-snyc",
            r"yaml:1:7: kind: expected repo-sync, multi-region, retire-model",
        ),
        ("sync", "kind: repo-sync", "kind: [repo-sync]", "or no kind at all, found a list"),
        ("sync", "load: latest", "laod: latest", "yaml:6:1: laod: unknown key; did you mean load?"),
        ("sync", "load: latest", "load: newest", "yaml:6:7: load: expected 'add' or 'latest', found 'newest'"),
        (
            "sync",
            "repository: models",
            "repositroy: models",
            "target.repositroy: unknown key; did you mean repository?",
        ),
        ("sync", ", repository: models", "", "yaml:4:9: target: give server: embedded, or the url and repository"),
        ("sync", "grpcs://triton:8001", "triton:8001", "target.url: expected grpc://host:port or"),
        ("sync", "s3://models/prod", "ftp://models", "store.url: expected s3://bucket/prefix"),
        ("sync", "s3://models/prod", "file:///models", "store.endpoint: only an s3:// store has an endpoint"),
        ("sync", 'store: {url: "s3://models/prod", endpoint: "http://127.0.0.1:8333"}', "store: {}", "yaml:3:8: store"),
        ("sync", 'url: "s3://models/prod", endpoint: "http://127.0.0.1:8333"', "server: embedded", "or none is"),
        (
            "regions",
            "name: us-east-1",
            "name: eu-west-1",
            "yaml:9:12: regions.1.name: regions 0 and 1 have the same name",
        ),
        ("regions", "grpc://us:8001", "grpc://eu:8001", "regions.1.url: regions 0 and 1 have the same url"),
        ("regions", "/mnt/us", "./eu", "regions.1.repository: regions 0 and 1 have the same repository"),
        ("regions", "name: us-east-1", "name: US.East", "regions.1.name: expected a name of small letters"),
        (
            "regions",
            '  - {name: us-east-1, url: "grpc://us:8001", repository: /mnt/us}\n',
            "",
            "regions: expected at least two",
        ),
        ("regions", "version: 7", "version: 0", "yaml:5:10: version: expected a whole number from 1 up"),
        ("regions", "probes: 2", "probs: 2", "yaml:6:1: probs: unknown key; did you mean probes?"),
        ("regions", "probes: 2", "prompts: nowhere.jsonl", "yaml:6:10: prompts: "),
        ("retire", "window: 10m", "window: 10", "yaml:6:9: window: expected a duration"),
        ("retire", "window: 10m", "window: 1ms", "window: expected 500ms to 1h, found 1ms"),
        ("retire", "then: remove", "then: delete", "then: expected 'archive' or 'remove'"),
        ("retire", "then: remove", "then: remove\narchive: x", "archive: then: remove makes no archive"),
        ("retire", "then: remove", "stray: 5/s", "stray: only the embedded server gets strays"),
        ("retire", "then: remove", "steady: 500/s", "steady: expected at most 200/s"),
        ("retire", "version: 3\n", "", "version: is missing"),
        ("sync", "http://127.0.0.1:8333", "127.0.0.1", "store.endpoint: expected a URL such as http://host:8333"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, file: str, old: str, new: str, expected: str) -> None:
    text = FILES[file]
    assert text.count(old) == 1
    with pytest.raises(ScenarioError) as caught:
        load(write(tmp_path, text.replace(old, new)))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_canary_without_a_kind_stays_a_canary(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="model: unknown key"):
        load(write(tmp_path, RETIRE.replace("kind: retire-model\n", "")))


def test_another_server_by_its_address(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="found no repository"):
        load("retire-model", url="grpc://triton:8001")
    retire = load("retire-model", ["target.repository=/models"], url="grpc://triton:8001")
    assert isinstance(retire, RetireModel)
    assert (retire.target.url, retire.target.server) == ("grpc://triton:8001", None)
    with pytest.raises(ScenarioError, match=r"--url grpc://triton:8001: there are several regions"):
        load("multi-region", url="grpc://triton:8001")
    with pytest.raises(ScenarioError, match=r"--url triton: target.url: expected"):
        load("retire-model", ["target.repository=/models"], url="triton")


def test_the_schema_knows_each_kind(tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    for text in FILES.values():
        validator.validate(read(write(tmp_path, text), "x").data)
    for text, old, new in [
        (SYNC, "load: latest", "laod: latest"),
        (SYNC, "kind: repo-sync", "kind: retire-model"),
        (REGIONS, "version: 7", "version: seven"),
        (RETIRE, "then: remove", "then: delete"),
        (RETIRE, "window: 10m", "window: 10"),
    ]:
        assert not validator.is_valid(read(write(tmp_path, text.replace(old, new)), "x").data), new


def test_the_steps_say_what_is_done_where(tmp_path: Path) -> None:
    for name in ("repo-sync", "multi-region", "retire-model"):
        facts = describe(load(name))
        assert facts.stages == facts.gates == ()
        assert len(facts.steps) >= 4
        assert "the embedded Triton (extra: embedded)" in built_in()[name].needs
    steps = " ".join(load(write(tmp_path, SYNC)).steps)
    assert "grpcs://triton:8001" in steps
    assert "llm, ranker" in steps
    assert "eu-west-1, us-east-1" in " ".join(load(write(tmp_path, REGIONS)).steps)
    assert "remove its directory" in load(write(tmp_path, RETIRE)).steps
