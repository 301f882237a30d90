"""A canary whose new version does not fit beside the old one: refused before anything is loaded, on a real Triton."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import main
from harness.embedded import add_version
from harness.errors import ScenarioError, UnsafeChange
from harness.run.costs import COST, costs
from harness.run.execute import execute
from harness.run.journal import Journal
from harness.run.models import fits, open_site
from harness.run.state import state_folder
from harness.scenario import load
from tests.run.conftest import journal, only_folder
from tests.run.places import Place, place

RUNNING = """
name: tiny-fit
target: {{url: "{url}", repository: {repository}}}
baseline: {{model: tiny, version: 1}}
candidate: {{model: tiny, version: 2}}
gates:
  - {{metric: errors, margin: 20pp}}
stages:
  - {{mode: paired, in_flight: 1, for: 4s}}
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("fit")) as found:
        yield found


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))


def written(folder: Path, there: Place) -> Path:
    """A scenario of versions that are in the repository."""
    path = folder / "tiny-fit.yaml"
    path.write_text(RUNNING.format(url=there.server.grpc_url, repository=there.repository))
    return path


def nothing(*_: object) -> None:
    pass


@pytest.mark.triton
def test_nothing_is_loaded_and_the_way_out_is_named(
    there: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario, out = str(written(tmp_path, there)), str(tmp_path / "out")
    assert main(["run", scenario, "--out", out, "--set", "target.needs_memory=900TiB"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("triton-canary: tiny: version 2 does not fit beside what serves on grpc://")
    assert "needs 921600.0 GiB of host memory (as stated), " in line
    assert "compare them in turns instead (in a scenario target: {swap: true} and sequential stages)" in line
    assert line.endswith("to load it all the same: target.even_if_it_does_not_fit: true")
    assert there.ready() == [1]
    assert there.state(2) == "", "Triton was never asked for it"
    assert not list((tmp_path / "out").glob("*")), "a run that never began leaves no folder"


@pytest.mark.triton
def test_a_deploy_is_refused_before_the_sync(there: Place, tmp_path: Path) -> None:
    scenario = load(there.scenario, ["target.needs_memory=900TiB"])
    with pytest.raises(UnsafeChange, match="does not fit beside what serves"):
        execute(scenario, tmp_path / "out", nothing, nothing)
    assert there.ready() == [1]
    assert not (there.repository / "tiny" / "2").exists(), "not even its files have come"
    assert not list((tmp_path / "out").glob("*")), "its journal knew of no change"


@pytest.mark.slow
@pytest.mark.triton
def test_what_a_run_measured_is_known_to_the_next_one(tmp_path: Path) -> None:
    """And the operator's word goes before it."""
    with place(tmp_path) as there:
        add_version(there.repository, "tiny", 2, "same")
        overrides = ["target.needs_memory=900TiB", "target.even_if_it_does_not_fit=true"]
        scenario = load(written(tmp_path, there), overrides)
        said: list[str] = []
        result = execute(scenario, tmp_path / "out", nothing, said.append)
        assert result.error is None
        assert any("does not fit" in line for line in said), "it is said all the same"
        (cost,) = costs(Journal(state_folder([there.server.grpc_url])).entries(), there.server.grpc_url, "tiny")
        assert cost.version == 2
        assert [line["action"] for line in journal(only_folder(tmp_path / "out"))].count(COST) == 2, "begun and done"
        with open_site([there.server.grpc_url], None, there.repository) as site:
            site.servers[0].set_versions("tiny", [1])
            (found,) = fits(site, "tiny", {there.server.grpc_url: [2]})
        assert found.answer == "fits"
        assert "measured: the last load of it" in found.sentence


def test_a_figure_is_a_size() -> None:
    with pytest.raises(ScenarioError, match="expected a size above 0 such as 40GiB"):
        load("fp8-canary", ["target.needs_memory=much"])
