"""What ships: the scenarios, their prompts, their description, the schema; also from a wheel."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import pytest

from harness.assets import locustfiles_dir, scenarios_dir
from harness.scenario import (
    EMBEDDED_TRITON,
    EMBEDDING_MODEL,
    GPU,
    LANGUAGE_MODEL,
    built_in,
    describe,
    json_schema,
    load,
)
from harness.scenario.document import read
from tests.scenario.conftest import changed

ROOT = Path(__file__).parents[2]


def test_the_folders_of_a_checkout() -> None:
    assert scenarios_dir() == ROOT / "scenarios"
    assert locustfiles_dir() == ROOT / "locustfiles"


def test_every_built_in_loads_and_is_described() -> None:
    assert "fp8-canary" in built_in()
    for name, scenario in built_in().items():
        assert load(name).name == name == scenario.path.stem
        assert scenario.summary
        assert scenario.needs
        assert describe(load(name)).steps


def test_the_questions() -> None:
    texts = [prompt.text for prompt in load("fp8-canary").prompts]
    assert len(texts) >= 160
    assert len({text.lower() for text in texts}) == len(texts)
    assert all(4 <= len(text.split()) <= 14 for text in texts)


def test_an_ensemble_needs_both_of_its_models() -> None:
    assert built_in()["rag-pipeline"].needs == (EMBEDDED_TRITON, LANGUAGE_MODEL, EMBEDDING_MODEL)
    assert built_in()["fp8-canary"].needs == (EMBEDDED_TRITON, LANGUAGE_MODEL)


def test_a_model_too_large_for_a_cpu_needs_a_gpu() -> None:
    assert built_in()["long-context-gpu"].needs == (EMBEDDED_TRITON, GPU)
    assert GPU not in built_in()["long-context"].needs


def test_the_schema_takes_what_ships_and_refuses_what_the_loader_refuses(scenario_file: Path) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    json.dumps(schema)
    for scenario in built_in().values():
        validator.validate(read(scenario.path, "x").data)
    validator.validate(read(scenario_file, "x").data)
    for old, new in [
        ("max_tokens: 8", "max_token: 8"),
        ("rate: 1/s, for: 30s", "rate: 0, for: 30s"),
        ("for: 90s", "for: 90"),
        ("mode: paired", "mode: pair"),
        ("name: fp8-canary", "name: a/b"),
    ]:
        text = scenario_file.read_text()
        assert not validator.is_valid(read(changed(scenario_file, old, new), "x").data), new
        scenario_file.write_text(text)


def test_the_description_of_the_example(scenario_file: Path) -> None:
    facts = describe(load(str(scenario_file)))
    assert facts.duration_s == 170.0
    assert facts.steps == (
        "start a Triton that serves smollm2 version 1",
        "load smollm2 version 2 (fp8) beside it, unless it is served already",
        "paired: every prompt to both, 1 pair in flight, for 90s",
        "split: 10% to the candidate, requests at 1/s, for 20s",
        "split: 50% to the candidate, requests at 1/s, for 30s",
        "split: 100% to the candidate, requests at 1/s, for 20s",
        "soak: 100% to the candidate, requests at 1/s, for 10s",
        "on promote: unload smollm2 version 1",
        "on rollback, at any stage: all traffic to smollm2 version 1, unload smollm2 version 2 (fp8)",
    )
    assert [stage.requests_candidate for stage in facts.stages] == [None, 2.0, 15.0, 20.0, 10.0]
    assert facts.stages[1].requests_baseline == 18.0
    errors = facts.gates[0]
    assert errors.rule == "errors at most 3pp more than the baseline's"
    assert errors.needs == 99
    assert errors.enough is None
    assert errors.sentence == (
        "needs 99 requests of each arm: stage 1 (paired, 90s) has them if one takes at most 0.909 s"
    )


@pytest.mark.parametrize(("rate", "enough"), [("5/s", False), ("20/s", True)])
def test_what_an_open_loop_can_show(scenario_file: Path, rate: str, enough: bool) -> None:
    overrides = [
        f"stages=[{{mode: paired, rate: {rate}, for: 100s}}]",
        "gates=[{metric: ttft.p99, margin: 10%}]",
        "on_promote=",
    ]
    (gate,) = describe(load(str(scenario_file), overrides)).gates
    assert gate.needs == 1000
    assert gate.enough is enough
    assert ("has only about 500" in gate.sentence) is not enough


def test_the_assets_reach_a_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import harness.assets, harness.scenario as s;"
        "print(harness.assets.locustfiles_dir() / 'canary.py'); print(len(s.load('fp8-canary').prompts))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    locustfile, prompts = done.stdout.split()
    assert Path(locustfile).is_relative_to(site)
    assert Path(locustfile).is_file()
    assert int(prompts) >= 160
