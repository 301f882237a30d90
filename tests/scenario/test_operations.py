"""Operations as files: what they accept, what they say of mistakes, how they are shown."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from harness.errors import ScenarioError
from harness.scenario import (
    FindMaxLoad,
    MultiModelServer,
    MultiRegion,
    NightBatch,
    RepoSync,
    RetireModel,
    built_in,
    describe,
    json_schema,
    load,
)
from harness.scenario.document import read
from harness.types import Gate, Tls

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

SERVER = """\
kind: multi-model-server
name: shared
models:
  embedding: {model: e5, url: "http://triton:8000", rate: 20/s, prompts: p.jsonl}
  llm: {model: llm, version: 2, url: "grpc://triton:8001", in_flight: 4}
limits: {latency: 1.5x, memory: 80%}
"""

NIGHT = """\
kind: night-batch
name: night
target: {url: "grpc://triton:8001", repository: models}
model: ranker
day: {max_queue_delay: 100us}
night: {max_queue_delay: 20ms, preferred_batch_size: [8, 16]}
realtime: {rate: 20/s}
batch: {in_flight: 16}
at: {dusk: "22:00", dawn: "06:00", zone: Europe/Berlin}
"""

FIND = """\
kind: find-max-load
name: most
target: {url: "http://triton:8000"}
model: llm
prompts: p.jsonl
between: [10/s, 80/s]
under: [{metric: response_time.p90, max: 250ms}]
"""

FILES = {"sync": SYNC, "regions": REGIONS, "retire": RETIRE, "server": SERVER, "night": NIGHT, "find": FIND}


def write(folder: Path, text: str) -> Path:
    (folder / "p.jsonl").write_text('{"prompt": "One?"}\n{"prompt": "Two?"}\n{"prompt": "Three?"}\n')
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


def test_two_models_and_their_loads(tmp_path: Path) -> None:
    server = load(write(tmp_path, SERVER))
    assert isinstance(server, MultiModelServer)
    first, second = server.models.values()
    assert [prompt.text for prompt in first.texts] == ["One?", "Two?", "Three?"]
    assert (first.rate, second.in_flight, second.version) == (20.0, 4, 2)
    assert server.order == (("embedding",), ("llm",), ("embedding", "llm"), ("llm",), ("embedding",))
    assert [server.seconds(names) for names in server.order] == [30.0, 30.0, 60.0, 30.0, 30.0]
    assert (server.limits.latency, server.limits.throughput, server.limits.memory) == (
        1.5,
        0.2,
        Gate("memory.peak", limit=0.8, limit_kind="share"),
    )
    stage = first.stage(2, 9.0)
    assert (stage.index, stage.arrival, stage.rate, stage.candidate_share, stage.duration_s) == (2, "poisson", 20, 0, 9)
    assert second.stage(0, 1.0).arrival == "closed"
    assert "together" in " ".join(server.steps)


def test_day_and_night(tmp_path: Path) -> None:
    night = load(write(tmp_path, NIGHT))
    assert isinstance(night, NightBatch)
    assert (night.day.delay_us, night.night.delay_us, night.night.preferred) == (100, 20_000, (8, 16))
    assert "wait for 22:00 (Europe/Berlin)" in " ".join(night.steps)
    both = load(write(tmp_path, NIGHT.replace(NIGHT[NIGHT.index("at:") :], "separate: {model: jobs}\n")))
    assert isinstance(both, NightBatch)
    assert "batch jobs to jobs" in " ".join(both.steps)


def test_a_load_is_sent_in_the_words_of_a_canary(tmp_path: Path) -> None:
    """workers, cache and connections; and of a model that is called, headers, parameters and certificates."""
    more = 'workers: 2, connections: 8, headers: {authorization: "x"}, parameters: {temperature: 0.5}, stream: false'
    old = "in_flight: 4}"
    server = load(write(tmp_path, SERVER.replace(old, f"in_flight: 4, cache: warm, {more}}}")))
    assert isinstance(server, MultiModelServer)
    second = server.models["llm"]
    assert (second.workers, second.connections, second.cache) == (2, 8, "warm")
    arm = second.arm("grpc://triton:8001")
    assert (arm.headers, arm.parameters, arm.stream) == ({"authorization": "x"}, {"temperature": 0.5}, False)
    night = load(write(tmp_path, NIGHT), workers=3)
    assert isinstance(night, NightBatch)
    assert (night.realtime.workers, night.batch.workers) == (3, 3)
    tls = "api: openai\ntls: {ca: ca.pem}\nworkers: 2\nconnections: 4\n"
    find = load(write(tmp_path, FIND.replace("http://", "https://") + tls))
    assert isinstance(find, FindMaxLoad)
    assert find.arm("https://triton:8000").tls == Tls(ca=f"{tmp_path}/ca.pem")
    tried = find.load_at(20.0)
    assert (tried.rate, tried.workers, tried.connections, len(tried.texts)) == (20.0, 2, 4, 3)


def test_workers_as_an_argument_reach_every_load(tmp_path: Path) -> None:
    server = load(write(tmp_path, SERVER), workers=4)
    assert isinstance(server, MultiModelServer)
    assert [model.workers for model in server.models.values()] == [4, 4]
    assert load("fp8-canary", workers=4).load.workers == 4
    find = load("max-rate", workers=4)
    assert isinstance(find, FindMaxLoad)
    assert find.workers == 4
    with pytest.raises(ScenarioError, match="--workers 4: retire-model sends no load"):
        load(write(tmp_path, RETIRE), workers=4)
    with pytest.raises(ScenarioError, match=r"--workers 0: realtime.workers: expected a whole number from 1 up"):
        load(write(tmp_path, NIGHT), workers=0)


def test_the_highest_load_is_not_looked_for_in_a_cache(tmp_path: Path) -> None:
    def found(text: str) -> str:
        scenario = load(write(tmp_path, text))
        assert isinstance(scenario, FindMaxLoad)
        return scenario.load_at(20.0).cache

    assert found(FIND) == "unique"
    assert found(FIND + "cache: as-is\n") == "as-is"
    assert found(FIND.replace("prompts: p.jsonl\n", "")) == "as-is", "noise has no prompt to make unique"


@pytest.mark.parametrize("name", FILES)
def test_what_is_dumped_can_be_read_again(tmp_path: Path, name: str) -> None:
    scenario = load(write(tmp_path, FILES[name]))
    dumped = scenario.model_dump(mode="json")
    assert type(scenario).model_validate(dumped) == scenario


def test_prompts_are_the_probes_of_a_token_model(tmp_path: Path) -> None:
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
        (
            "server",
            "in_flight: 4",
            "in_flight: 4, rate: 1/s",
            "models.llm: give rate (such as rate: 20/s) or in_flight",
        ),
        ("server", "in_flight: 4", "in_fligth: 4", "models.llm.in_fligth: unknown key; did you mean in_flight?"),
        ("server", ', url: "grpc://triton:8001"', "", "models.llm: give target: {server: embedded}, or where"),
        ("server", "in_flight: 4", "in_flight: 4, over: grpc", "models.llm.over: only the embedded server has it"),
        ("server", "  llm:", "  LLM:", "models.LLM: expected a name of small letters"),
        ("server", "latency: 1.5x", "latency: 150%", "limits.latency: expected a factor above 0 such as 2x"),
        ("server", "p.jsonl", "nowhere.jsonl", "models.embedding.prompts: expected a file of prompts"),
        (
            "night",
            "max_queue_delay: 100us",
            "max_queue_delay: 2m",
            "day.max_queue_delay: expected 0s to 60s, found 120s",
        ),
        ("night", "[8, 16]", "[8, 0]", "night.preferred_batch_size.1: expected a whole number from 1 up"),
        ("night", '"22:00"', '"10 pm"', 'at.dusk: expected a time of day such as "22:00"'),
        ("night", '"22:00"', '"06:00"', "at.dawn: expected another time than dusk"),
        ("night", "Europe/Berlin", "Europe/Atlantis", "at.zone: expected a time zone such as Europe/Berlin"),
        ("night", "name: night", "name: night\nseparate: {model: jobs}", "two deployments have no dusk and no dawn"),
        ("night", "max_queue_delay: 20ms, preferred_batch_size: [8, 16]", "max_queue_delay: 100us", "found the same"),
        (
            "night",
            'dawn: "06:00"',
            'dawn: "22:05"',
            "at.dawn: a night of 300s is too short: what is measured in it takes",
        ),
        ("night", "rate: 20/s", "rate: 20/s, cache: unique", "realtime.cache: what is made unique is a prompt"),
        ("find", "prompts: p.jsonl", "cache: unique", "yaml:5:8: cache: what is made unique is a prompt: give prompts"),
        ("find", "prompts: p.jsonl", "worker: 2", "yaml:5:1: worker: unknown key; did you mean workers?"),
        ("find", "prompts: p.jsonl", "tls: {ca: ca.pem}", "tls: only grpcs:// and https:// use certificates"),
        ("find", "model: llm", "model: llm\napi: rest", "api: expected 'kserve', 'generate' or 'openai'"),
        (
            "find",
            'target: {url: "http://triton:8000"}',
            "target: {server: embedded}\napi: openai",
            "api: the embedded server has no OpenAI front end; give the url of one",
        ),
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
