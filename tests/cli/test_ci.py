"""--ci, --push and --otlp, from argv to what GitHub, GitLab and monitors get; the exit code is the verdict's."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import jsonschema
import pyarrow.parquet as pq
import pytest

from harness.judge import evidence_of, judge, schema
from harness.publish import deliver
from harness.recording import Recording, write_observations
from harness.report.annotations import SUMMARY_BYTES
from harness.report.markdown import markdown
from tests.cli.conftest import Call
from tests.judge.operations import GOOD
from tests.publish import serving
from tests.report import factory


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run in which most of the candidate's requests failed. Its page is none: to draw one takes seconds."""
    folder = tmp_path_factory.mktemp("recorded")
    run = factory.recording(plans=(dataclasses.replace(factory.PLANS[0], duration_s=20.0),), failing=0.6)
    run.meta["gates"] = run.meta["gates"][:2]
    (folder / "run.json").write_text(json.dumps(run.meta))
    pq.write_table(run.samples, folder / "samples.parquet")
    (folder / "report.html").write_text("a page")
    return folder


@pytest.fixture
def operation(run: Path) -> Path:
    (folder := run.parent / "operation").mkdir()
    meta = {"format": 1, "scenario": {"name": "an-operation"}, "started_utc": "2026-01-01T00:00:00+00:00"}
    (folder / "run.json").write_text(json.dumps(meta))
    write_observations(folder, GOOD["retire-model"]())
    return folder


@pytest.fixture
def run(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its folder, below a working directory that no CI system knows of."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_SHA", "GITLAB_CI", "CI_COMMIT_SHA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(deliver, "PAUSES_S", (0.01, 0.01))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(recorded, tmp_path / "canary" / "run")
    return Path("canary/run")


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """The files of a step: its summary, in which an earlier command wrote, and its outputs."""
    summary, outputs = tmp_path / "summary.md", tmp_path / "outputs"
    summary.write_text("# before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    return summary, outputs


def test_github_gets_annotations_a_summary_and_outputs(run: Path, github: tuple[Path, Path], call: Call) -> None:
    summary, outputs = github
    done = call("judge", run, "--json", "--ci", "github")
    assert done.code == 1
    jsonschema.validate(json.loads(done.stdout), schema())
    lines = done.stderr.splitlines()
    assert lines[0].startswith("::error title=fp8-canary%3A rollback::")
    assert any(line.startswith("::error title=errors%3A fail::") for line in lines)
    text = summary.read_text()
    assert text.startswith("# before\n## ✗ rollback: fp8-canary\n")
    recording = Recording.open(run)
    assert text.removeprefix("# before\n") == markdown(recording, judge(evidence_of(recording)))
    assert outputs.read_text() == f"verdict=rollback\nfolder={run}\nreport={run}/report.html\n"


def test_a_summary_that_is_full_is_cut_not_overrun(run: Path, github: tuple[Path, Path], call: Call) -> None:
    github[0].write_text("x" * (SUMMARY_BYTES - 500))
    assert call("judge", run, "--ci", "github").code == 1
    assert SUMMARY_BYTES - 500 < github[0].stat().st_size <= SUMMARY_BYTES
    assert "**Cut here" in github[0].read_text()


def test_auto_is_whoever_runs_it(
    run: Path, github: tuple[Path, Path], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "::error" not in call("judge", run, "--ci", "auto").stderr
    assert "::error" not in call("judge", run).stderr
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert "::error" in call("judge", run, "--ci", "auto").stderr


def test_github_without_its_files_says_so_and_changes_nothing(
    run: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", "/no/such/folder/outputs")
    done = call("judge", run, "--ci", "github", "--json")
    assert done.code == 1
    assert json.loads(done.stdout)["verdict"] == "rollback"
    told = [line for line in done.stderr.splitlines() if not line.startswith("::")]
    assert len(told) == 2
    assert told[0] == "triton-canary: --ci github: $GITHUB_STEP_SUMMARY is not set, and nothing was written there"
    assert told[1].startswith("triton-canary: --ci github: $GITHUB_OUTPUT: ")


def test_an_operation_is_told_in_its_own_words(operation: Path, github: tuple[Path, Path], call: Call) -> None:
    for command in ("judge", "report"):
        done = call(command, operation, "--ci", "github")
        assert done.code == 0
        assert "::notice title=an-operation%3A done::" in done.stderr
    first, second = github[0].read_text().split("## ✓ done: an-operation")[1:]
    assert first.strip() == second.strip()


def test_gitlab_gets_a_link_to_each_report(run: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_JOB_URL", "https://gitlab.example/team/llm/-/jobs/7")
    monkeypatch.setenv("CI_PROJECT_DIR", str(Path.cwd()))
    shutil.copytree(run, other := run.parent / "other run")
    for folder in (run, other, run):
        assert call("judge", folder, "--ci", "gitlab").code == 1
    base = "https://gitlab.example/team/llm/-/jobs/7/artifacts/file/canary"
    assert json.loads(Path("gl-annotations.json").read_text()) == {
        "triton-canary": [
            {"external_link": {"label": "fp8-canary: rollback", "url": f"{base}/other%20run/report.html"}},
            {"external_link": {"label": "fp8-canary: rollback", "url": f"{base}/run/report.html"}},
        ]
    }


def test_gitlab_s_links_are_where_artifacts_are_named_from(
    run: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_JOB_URL", "https://gitlab.example/-/jobs/7")
    monkeypatch.setenv("CI_PROJECT_DIR", str(Path.cwd()))
    monkeypatch.chdir(run.parent)
    assert call("judge", "run", "--ci", "gitlab").code == 1
    assert not Path("gl-annotations.json").exists()
    (links,) = json.loads(Path("../gl-annotations.json").read_text()).values()
    assert links[0]["external_link"]["url"].endswith("/artifacts/file/canary/run/report.html")


@pytest.mark.parametrize("there", ["{}", "[1, 2]", "no json", '{"triton-canary": [7]}'])
def test_gitlab_s_links_that_somebody_else_wrote_stay(
    run: Path, call: Call, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    monkeypatch.setenv("CI_JOB_URL", "https://gitlab.example/-/jobs/7")
    monkeypatch.setenv("CI_PROJECT_DIR", str(Path.cwd()))
    Path("gl-annotations.json").write_text(there)
    done = call("judge", run, "--ci", "gitlab")
    assert done.code == 1
    assert "triton-canary: --ci gitlab: gl-annotations.json: " in done.stderr
    assert Path("gl-annotations.json").read_text() == there


def test_gitlab_outside_of_a_job(run: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI_JOB_URL", raising=False)
    done = call("judge", run, "--ci", "gitlab")
    assert done.code == 1
    assert "--ci gitlab: no link to a report: it takes $CI_JOB_URL" in done.stderr
    assert not Path("gl-annotations.json").exists()


def test_figures_are_sent_where_the_options_say(operation: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_SHA", "0123abc")
    with serving.serving() as gateway, serving.serving() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=se%20cret")
        done = call("report", operation, "--push", gateway.url, "--otlp")
        assert done.code == 0
        pushed, sent = gateway.asked.get(timeout=10), collector.asked.get(timeout=10)
    assert (pushed.method, pushed.path) == ("PUT", "/metrics/job/triton-canary/scenario/an-operation")
    assert pushed.body == (operation / "metrics.txt").read_bytes()
    assert sent.headers["api-key"] == "se cret"
    resource, figures = serving.figures(sent)
    assert resource["vcs.ref.head.revision"] == "0123abc"
    verdicts = {dict(labels)["verdict"]: value for labels, value in figures["triton_canary_verdict"][1].items()}
    assert verdicts == {"promote": 1, "rollback": 0, "inconclusive": 0}


def test_who_is_away_changes_no_exit_code(run: Path, call: Call) -> None:
    port = serving.free_ports(1)[0]
    done = call("judge", run, "--push", f"http://127.0.0.1:{port}", "--otlp", f"http://127.0.0.1:{port}", "--json")
    assert done.code == 1
    assert json.loads(done.stdout)["verdict"] == "rollback"
    push, otlp = done.stderr.splitlines()
    assert push.startswith(f"triton-canary: --push: http://127.0.0.1:{port}/metrics/job/triton-canary/")
    assert otlp.startswith(f"triton-canary: --otlp: http://127.0.0.1:{port}/v1/metrics: ")
    assert otlp.endswith("; the verdict and the exit code stay as they are")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--push", "gateway:9091"), "argument --push: expected an address such as http://host:9091"),
        (("--otlp",), "argument --otlp: give an address, or set OTEL_EXPORTER_OTLP_ENDPOINT"),
        (("--otlp", "grpc://host:4317"), "argument --otlp: expected an address"),
        (("--ci", "jenkins"), "argument --ci: invalid choice: 'jenkins'"),
    ],
)
def test_a_mistake_is_told_before_anything_begins(
    call: Call, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", raising=False)
    for command in (("run", "no-such-scenario"), ("judge", "nowhere"), ("report", "nowhere")):
        done = call(*command, *options)
        assert done.code == 2
        assert done.stdout == ""
        assert said in done.stderr
