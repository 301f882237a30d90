"""docs/ci: what GitHub and GitLab take by their own schemas, and every script of it run by a shell.

Twice with the real command, but for `triton-canary gate`, which leaves a recorded run as the real one does; and with
one that only exits as it is told, for what the scripts make of each exit code. Every command line is read by our own
parser.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema
from ruamel.yaml import YAML

from harness.cli import main, parser
from harness.judge import judge_operation
from harness.report import render_operation
from harness.types import Gate
from tests.judge.operations import GOOD
from tests.report import factory
from tests.run.checkouts import git

FOLDER = Path(__file__).parent.parent / "docs" / "ci"
GITHUB: Any = YAML(typ="safe").load(FOLDER / "github.yml")
GITLAB: Any = YAML(typ="safe").load(FOLDER / "gitlab.yml")
# As GitLab sees it: a job has what it extends.
WHOLE = {
    name: {**GITLAB[job["extends"]], **{key: value for key, value in job.items() if key != "extends"}}
    for name, job in GITLAB.items()
    if isinstance(job, dict) and "extends" in job
}
SCHEMAS = {"vendor.github-workflows": [GITHUB], "vendor.gitlab-ci": [GITLAB, WHOLE]}
STEPS = GITHUB["jobs"]["gate"]["steps"]
HISTORY = ".triton-canary/history"

# What an expression of the workflow is worth, by event; one that is not here fails the test.
VALUES = {
    "github.event_name == 'push' && github.event.before || format('origin/{0}', github.base_ref)": (
        "before",
        "origin/main",
    ),
    "github.event_name == 'push' && '--add' || ''": ("--add", ""),
}
RUN = "canary/20260101T120000Z-gate-llm"
CALLED = """\
#!/bin/sh
printf '%s\\0' "$@" >>calls
echo >>calls
"""
# gate leaves a recorded run; all else is the real command.
REAL = """\
if [ "$1" = gate ]; then
  mkdir canary
  cp -r "$RECORDED" {run}
  for ci in "$@"; do :; done  # the last of the arguments
  set -- judge {run} --ci "$ci"
fi
exec {python} -m harness.cli "$@"
"""
# Says nothing and exits as it is told; gate names a run's folder, as far as it has one.
TOLD = """\
[ "$1" = gate ] || exit "$CHECK"
[ "$GATE" -eq 2 ] || {{ mkdir -p {run}; echo folder={run} >>"$GITHUB_OUTPUT"; }}
exit "$GATE"
"""


def validate(schema: str, document: Any) -> None:
    jsonschema.Draft7Validator(get_builtin_schema(schema)).validate(document)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_their_schemas_take_them(schema: str) -> None:
    for document in SCHEMAS[schema]:
        validate(schema, document)


def test_the_validation_is_strict() -> None:
    github, gitlab = copy.deepcopy(GITHUB), copy.deepcopy(WHOLE)
    github["jobs"]["gate"]["timeout_minutes"] = 60
    gitlab["canary"]["artifacts"]["expires_in"] = "30 days"
    for schema, document in (("vendor.github-workflows", github), ("vendor.gitlab-ci", gitlab)):
        with pytest.raises(jsonschema.ValidationError):
            validate(schema, document)


def test_the_workflow_may_do_no_more_than_it_must() -> None:
    assert GITHUB["permissions"] == {"contents": "read"}
    checkouts = [step for step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts[-1]["with"]["fetch-depth"] == 0
    assert checkouts[-1].get("continue-on-error") is None
    for checkout in checkouts:
        assert checkout["with"]["persist-credentials"] is False
        assert checkout["with"]["lfs"] is True
    for step in STEPS:
        assert "${{" not in step.get("run", ""), "an expression in a script runs whatever is in it"
        assert re.fullmatch(r"actions/[\w/-]+@v\d+", step.get("uses", "actions/x@v1"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs by what came of them. Their page is none: to draw one takes seconds."""
    found = {}
    for verdict, failing in (("promote", 0.0), ("rollback", 0.6)):
        folder = found[verdict] = tmp_path_factory.mktemp(verdict)
        run = factory.recording(plans=(dataclasses.replace(factory.PLANS[0], duration_s=60.0),), failing=failing)
        meta = run.meta | {"gates": [dataclasses.asdict(Gate("errors", 0.10, "absolute"))]}
        (folder / "run.json").write_text(json.dumps(meta))
        pq.write_table(run.samples, folder / "samples.parquet")
        (folder / "report.html").touch()
        assert main(["judge", str(folder)]) == {"promote": 0, "rollback": 1}[verdict]
    return found


class Job:
    """A working directory with the command in it, and the shell that a CI system runs scripts with."""

    def __init__(self, folder: Path, command: str, **environment: str) -> None:
        self.folder = folder
        (bin_ := folder / "bin").mkdir(parents=True)
        program = bin_ / "triton-canary"
        program.write_text(CALLED + command.format(python=sys.executable, run=RUN))
        program.chmod(0o755)
        known = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "CI_", "GITLAB_"))}
        self.environment = known | environment | {
            "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(FOLDER.parent.parent),
            "GITHUB_OUTPUT": str(folder / "outputs"), "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        }  # fmt: skip

    def shell(self, script: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "--noprofile", "--norc", *options, "-c", script], cwd=self.folder, text=True, capture_output=True,
            env=self.environment | environment, check=False,
        )  # fmt: skip

    def commands(self) -> list[list[str]]:
        """What was called, each read by our own parser."""
        lines = (self.folder / "calls").read_text().splitlines()
        called = [line.split("\0")[:-1] for line in lines]
        for argv in called:
            parser().parse_args(argv)
        return called


class Workflow(Job):
    """The steps of docs/ci/github.yml that are scripts of ours."""

    def __init__(self, folder: Path, command: str, event: str, **environment: str) -> None:
        self.event, self.outputs = event, dict[str, str]()
        super().__init__(folder, command, GITHUB_EVENT_NAME=event, **environment)

    def value(self, expression: str) -> str:
        name = expression.removeprefix("steps.gate.outputs.")
        return self.outputs.get(name, "") if name != expression else VALUES[expression][self.event != "push"]

    def wanted(self, condition: str) -> bool:
        """Of the conditions that there are; a step after one that failed runs, because of `!cancelled()`."""
        parts = condition.removeprefix("${{").removesuffix("}}").strip().split(" && ")
        known = {
            "!cancelled()": True,
            "github.event_name == 'push'": self.event == "push",
            "steps.gate.outputs.folder": bool(self.outputs.get("folder")),
        }
        return all(known[part] for part in parts)

    def run(self) -> dict[str, int]:
        """By name, the exit codes of the steps that ran. `bash -e` is what GitHub runs a script with."""
        codes = {}
        for step in STEPS:
            if "triton-canary" not in step.get("run", "triton-canary[") or "pip install" in step.get(
                "run", "pip install"
            ):
                continue
            if not self.wanted(step.get("if", "!cancelled()")):
                continue
            environment = {
                key: re.sub(r"\$\{\{\s*(.*?)\s*\}\}", lambda match: self.value(match[1]), str(text))
                for key, text in step.get("env", {}).items()
            }
            codes[step["name"]] = self.shell(step["run"], "-e", **environment).returncode
            outputs = self.folder / "outputs"
            if step.get("id") == "gate" and outputs.exists():
                self.outputs = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        return codes


GATE, CHECK, DRAW = "Compare with the base branch", "Compare with the history", "Draw the history"


@pytest.mark.parametrize(
    ("gate", "check", "event", "codes"),
    [
        (0, 0, "pull_request", {GATE: 0, CHECK: 0}),
        (1, 0, "pull_request", {GATE: 1, CHECK: 0}),
        (0, 1, "pull_request", {GATE: 0, CHECK: 1}),
        (3, 3, "pull_request", {GATE: 0, CHECK: 0}),
        (4, 0, "pull_request", {GATE: 4, CHECK: 0}),
        (2, 0, "pull_request", {GATE: 2}),
        (0, 0, "push", {GATE: 0, CHECK: 0, DRAW: 0}),
    ],
)
def test_the_workflow_is_red_only_for_a_reason(
    tmp_path: Path, gate: int, check: int, event: str, codes: dict[str, int]
) -> None:
    job = Workflow(tmp_path, TOLD, event, GATE=str(gate), CHECK=str(check))
    assert job.run() == codes
    gated, *checked = job.commands()
    assert gated[gated.index("--base") + 1] == ("HEAD~1" if event == "push" else "origin/main")
    assert [argv[:3] for argv in checked[:1]] == ([["history", "check", RUN]] if CHECK in codes else [])
    assert any("--add" in argv for argv in checked) == (event == "push")


@pytest.mark.parametrize(("forced", "base"), [(False, "before"), (True, "HEAD~1")])
def test_all_commits_of_a_push_are_compared(tmp_path: Path, forced: bool, base: str) -> None:
    """With the commit that was there before; after a forced push nobody has that any more."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "x")
    git(tmp_path, "tag", "other" if forced else "before")
    job = Workflow(tmp_path, TOLD, "push", GATE="0", CHECK="0")
    job.run()
    there = Job(tmp_path / "gitlab", TOLD, GATE="0", CHECK="0", CI_COMMIT_BEFORE_SHA="before")
    assert there.shell(scripts("canary history"), "-eo", "pipefail").returncode == 0
    for gated in (job.commands()[0], there.commands()[0]):
        assert gated[gated.index("--base") + 1] == base


def test_the_workflow_of_a_push_keeps_a_history(runs: dict[str, Path], tmp_path: Path) -> None:
    job = Workflow(tmp_path, REAL, "push", RECORDED=str(runs["promote"]))
    assert job.run() == {GATE: 0, CHECK: 0, DRAW: 0}
    assert len(job.commands()) == 3
    assert job.outputs["verdict"] == "promote"
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("## ✓ promote: fp8-canary\n")
    assert summary.count("\n## ") == 1, "the history's part is below the gate's"
    (saved,) = (step for step in STEPS if step.get("uses", "").startswith("actions/cache/save@"))
    assert list((tmp_path / saved["with"]["path"]).iterdir())
    assert (tmp_path / "canary" / "history.html").read_text().startswith("<!doctype html>")


def scripts(job: str) -> str:
    """As one script, as GitLab's runner makes it."""
    return "\n".join(GITLAB[job]["script"])


@pytest.mark.parametrize(
    ("job", "gate", "check", "code", "calls"),
    [
        ("canary", 0, 0, 0, 2),
        ("canary", 0, 1, 1, 2),
        ("canary", 0, 3, 3, 2),
        ("canary", 1, 0, 1, 1),
        ("canary", 3, 0, 3, 1),
        ("canary history", 0, 0, 0, 3),
        ("canary history", 3, 0, 3, 3),
        ("canary history", 3, 1, 1, 3),
        ("canary history", 1, 3, 1, 3),
        ("canary history", 0, 3, 3, 3),
        ("canary history", 2, 0, 2, 2),
    ],
)
def test_the_jobs_are_red_only_for_a_reason(
    tmp_path: Path, job: str, gate: int, check: int, code: int, calls: int
) -> None:
    there = Job(tmp_path, TOLD, GATE=str(gate), CHECK=str(check))
    done = there.shell(scripts(job), "-eo", "pipefail")
    assert done.returncode == code, done.stderr
    called = there.commands()
    assert len(called) == calls
    assert any("--add" in argv for argv in called) == (job == "canary history" and gate != 2)
    assert GITLAB[".canary"]["allow_failure"] == {"exit_codes": 3}


@pytest.mark.slow
def test_the_job_of_a_merge_request(runs: dict[str, Path], tmp_path: Path) -> None:
    """What got worse is red, and a link to its report is beside the log."""
    job = Job(
        tmp_path, REAL, RECORDED=str(runs["rollback"]), CI_JOB_URL="https://gitlab.example/-/jobs/1",
        CI_PROJECT_DIR=str(tmp_path),
    )  # fmt: skip
    done = job.shell(scripts("canary"), "-eo", "pipefail")
    assert done.returncode == 1, done.stderr
    (links,) = json.loads((tmp_path / GITLAB[".canary"]["artifacts"]["reports"]["annotations"]).read_text()).values()
    assert [link["external_link"]["label"] for link in links] == ["fp8-canary: rollback"]
    assert links[0]["external_link"]["url"].endswith(f"/{RUN}/report.html")
    assert not (tmp_path / HISTORY).exists()


def test_the_files_that_are_kept_are_there(tmp_path: Path) -> None:
    facts = GOOD["retire-model"]()
    (run := tmp_path / RUN).mkdir(parents=True)
    render_operation({}, facts, judge_operation(facts), run)
    for written in (run / "verdict.json", run / "run.json", tmp_path / "canary" / "history.html"):
        written.touch()  # by the run itself, and by `history report`
    (upload,) = (step for step in STEPS if "upload-artifact" in step.get("uses", ""))
    reports = GITLAB[".canary"]["artifacts"]["reports"]
    for pattern in (*upload["with"]["path"].split(), reports["junit"], reports["metrics"]):
        assert list(tmp_path.glob(pattern)), pattern
