"""What a checkout is compared with, and what differs: from git, before anything is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.errors import UsageError
from harness.run.checkout import Checkout, look
from harness.run.placed import MARK
from tests.run.checkouts import ENSEMBLE, commit, git, snapshot, working_tree, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return working_tree(tmp_path / "team")


def looked(given: Path, environment: dict[str, str] | None = None, **named: Any) -> Checkout:
    named = {"model": None, "base": None, "base_folder": None, **named}
    return look(given, environment=environment or {}, **named)


def test_the_base_is_where_head_left_the_branch(model: Path) -> None:
    base = git(model, "rev-parse", "HEAD")
    write_model(model, delay_s=0.009)
    (model / "config.pbtxt").write_text((model / "config.pbtxt").read_text().replace("count: 1", "count: 2"))
    head = commit(model, "echo: waits longer, twice")
    (model / "labels.txt").write_text("one\n")
    git(model, "branch", "-q", "later", "main")
    before = snapshot(model.parents[1])
    found = looked(model)
    assert snapshot(model.parents[1]) == before
    assert (found.ref, found.base, found.head) == ("main", base, head)
    assert found.about["dirty"]
    assert found.about["folder"] == "models/echo"
    assert [file["path"] for file in found.about["changed"]] == [
        "echo/1/model.py", "echo/config.pbtxt", "echo/labels.txt",
    ]  # fmt: skip
    assert found.about["changed"][2] == {"path": "echo/labels.txt", "before": None, "after": 4}
    assert found.about["config"] == [
        {"file": "echo/config.pbtxt", "key": "instance_group[0].count", "before": "1", "after": "2"}
    ]
    assert found.about["commits"] == [{"sha": head, "subject": "echo: waits longer, twice"}]
    assert not found.is_unchanged


def test_commits_of_the_base_that_came_later_are_no_change(model: Path) -> None:
    root = model.parents[1]
    (root / "README").write_text("mine\n")
    commit(root, "README")
    git(root, "checkout", "-q", "main")
    write_model(model, delay_s=0.9)
    commit(root, "echo: by somebody else")
    git(root, "checkout", "-q", "work")
    assert looked(model).is_unchanged


@pytest.mark.parametrize("variable", ["GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"])
def test_ci_says_what_the_base_is(model: Path, tmp_path: Path, variable: str) -> None:
    root = model.parents[1]
    git(root, "branch", "release")
    git(tmp_path, "clone", "-q", "--branch", "work", str(root), "clone")
    write_model(tmp_path / "clone" / "models" / "echo", delay_s=0.009)
    found = looked(tmp_path / "clone" / "models" / "echo", {variable: "release"})
    assert found.ref == "origin/release"
    assert looked(tmp_path / "clone" / "models" / "echo").ref == "origin/HEAD"
    with pytest.raises(UsageError, match=r"origin/gone: not known in .*--base.*git fetch"):
        looked(tmp_path / "clone" / "models" / "echo", {variable: "gone"})


def test_a_shallow_clone_says_what_it_takes(model: Path, tmp_path: Path) -> None:
    root = model.parents[1]
    (root / "README").write_text("mine\n")
    commit(root, "README")
    git(tmp_path, "clone", "-q", "--depth", "1", "--branch", "work", f"file://{root}", "clone")
    clone = tmp_path / "clone" / "models" / "echo"
    with pytest.raises(UsageError, match=r"origin/main: not known in .*fetch-depth: 0.*GIT_DEPTH: 0.*--unshallow"):
        looked(clone, {"GITHUB_BASE_REF": "main"})
    git(clone, "fetch", "-q", "--depth", "1", "origin", "main:refs/remotes/origin/main")
    with pytest.raises(UsageError, match=r"origin/main and HEAD have no history in this clone.*fetch-depth: 0"):
        looked(clone, {"GITHUB_BASE_REF": "main"})


def test_what_is_no_model_or_no_base_is_one_line(model: Path, tmp_path: Path) -> None:
    for given, named, said in (
        (model / "nowhere", {}, r"nowhere: no such folder"),
        (tmp_path, {}, r"is in no git repository"),
        (model.parent, {}, r"holds no model: it is a repository of echo: say which with --model echo"),
        (model / "1", {}, r"holds no model: a model's folder has a config\.pbtxt"),
        (model, {"base": "nowhere"}, r"nowhere: not known in"),
        (model, {"base_folder": "models/eco"}, r"--base-folder models/eco: main \([0-9a-f]{7}\) has no such folder"),
        (model, {"base_folder": "../team/models/echo"}, r"--base-folder .*: expected a path from the root"),
    ):
        with pytest.raises(UsageError, match=said):
            looked(given, **named)
    assert looked(model.parent, model="echo").is_unchanged


def test_a_link_to_a_model_may_have_led_elsewhere_in_the_base(model: Path, tmp_path: Path) -> None:
    """To compare where it leads now with the same place in the base shows nothing of the change."""
    root = model.parents[1]
    write_model(root / "builds" / "v2" / "echo", delay_s=0.009)
    (root / "served").symlink_to("builds/v2")
    commit(root, "served: v2")
    with pytest.raises(UsageError, match=r"team/served: is a link, .* give the folder itself: .*/builds/v2/echo"):
        looked(root / "served" / "echo")
    (tmp_path / "elsewhere").symlink_to(root)  # git knows nothing of it
    assert looked(tmp_path / "elsewhere" / "models" / "echo").is_unchanged


def test_a_new_model_has_nothing_to_be_compared_with_unless_it_was_moved(model: Path) -> None:
    new = model.parent / "delta"
    write_model(new, delay_s=0.009)
    assert looked(new).base_build is None
    found = looked(new, base_folder="models/echo")
    assert found.base_build is not None
    assert [file["path"] for file in found.about["changed"]] == ["delta/1/model.py", "delta/config.pbtxt"]


def test_what_git_ignores_is_given_to_both(model: Path) -> None:
    """Weights that a step of the job has downloaded."""
    (model.parents[1] / ".gitignore").write_text("*.plan\n")
    (model / "1" / "model.plan").write_bytes(b"weights")
    found = looked(model)
    assert found.is_unchanged
    assert found.about["ignored"] == ["models/echo/1/model.plan"]
    assert found.base_build is not None
    assert found.base_build.files["echo"]["1/model.plan"].source == model / "1" / "model.plan"


def test_the_version_that_a_request_is_answered_by(model: Path) -> None:
    write_model(model, version=3)
    write_model(model, version=10)
    assert looked(model).head_build.version == 10
    assert looked(model).base_build.version == 1  # type: ignore[union-attr]
    assert all(not path.startswith(("1/", "3/")) for path in looked(model).head_build.placed("echo"))
    config = model / "config.pbtxt"
    config.write_text(config.read_text() + "version_policy { specific { versions: [ 1, 3 ] } }\n")
    assert looked(model).head_build.version == 3
    config.write_text(config.read_text().replace("[ 1, 3 ]", "[ 4 ]"))
    with pytest.raises(UsageError, match=r"echo has no versions \[4\] in the working tree .*: there are \[1, 3, 10\]"):
        looked(model)


def test_an_ensemble_comes_with_its_steps(model: Path) -> None:
    for name, version in (("first", 1), ("first", 2), ("second", 2), ("second", 3)):
        write_model(model.parent / name, version=version)
    (model.parent / "both").mkdir()
    (model.parent / "both" / "config.pbtxt").write_text(ENSEMBLE)
    build = looked(model.parent / "both").head_build
    assert build.order == ("first", "second", "both")
    assert build.versions == {"both": (1,), "first": (2,), "second": (2,)}
    (model.parent / "second" / "config.pbtxt").write_text("max_batch_size: many")
    with pytest.raises(UsageError, match=r"models/second/config\.pbtxt in the working tree: is not a model"):
        looked(model.parent / "both")
    write_model(model.parent / "second", version=3)
    (model.parent / "first" / "1" / "model.py").unlink()
    (model.parent / "first" / "2" / "model.py").unlink()
    (model.parent / "first" / "config.pbtxt").unlink()
    with pytest.raises(UsageError, match=r"both is an ensemble with the step first, and the working tree has no"):
        looked(model.parent / "both")


@pytest.mark.parametrize("step", ["../models/echo", "..", "", "a/b"])
def test_a_step_is_a_model_beside_the_ensemble(model: Path, step: str) -> None:
    """Where its folder is put is made of its name."""
    (model / "config.pbtxt").write_text(ENSEMBLE.replace("first", step))
    with pytest.raises(UsageError, match=r"echo is an ensemble in the working tree, and its step '.*' is no name"):
        looked(model)


def test_an_ensemble_that_asks_itself_is_left_to_triton(model: Path) -> None:
    (model / "config.pbtxt").write_text(ENSEMBLE.replace("first", "echo").replace("second", "echo"))
    (model / "2").mkdir()
    (model / "2" / "note.txt").write_text("git keeps no empty folder\n")
    assert looked(model).head_build.order == ("echo",)


def test_a_mark_that_somebody_has_committed_is_not_taken_along(model: Path) -> None:
    """Else the folder would not be this run's, and stay in the server's repository."""
    (model / MARK).write_text('{"run": "another"}')
    assert sorted(looked(model).head_build.placed("echo")) == ["1/model.py", "config.pbtxt"]


def test_a_base_that_cannot_be_read_is_named(model: Path) -> None:
    (model / "config.pbtxt").write_text("max_batch_size: many")
    commit(model, "broken")
    (model / "config.pbtxt").write_text("")
    with pytest.raises(UsageError, match=r"config\.pbtxt in HEAD \([0-9a-f]{7}\): is not a model configuration"):
        looked(model, base="HEAD")


def test_the_command_says_that_there_is_nothing_to_compare_and_ends_well(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.delenv("GITHUB_BASE_REF", raising=False)
    assert main(["gate", "--checkout", str(model), "--out", str(out), "--json"]) == 0
    same = capsys.readouterr()
    assert "nothing changed in models/echo since main" in same.err
    assert json.loads(same.out)["verdict"] == "promote"
    assert "which is HEAD itself" in json.loads(same.out)["reason"]
    assert main(["gate", "--checkout", str(model), "--margin", "errors=some", "--out", str(out)]) == 2
    assert "--margin errors=some" in capsys.readouterr().err
    (model.parents[1] / ".gitignore").write_text("*.plan\n")
    (model / "1" / "model.plan").write_bytes(b"weights")
    assert main(["gate", "--checkout", str(model), "--base", "HEAD~0", "--out", str(out)]) == 0
    unseen = "not in git, so that nobody knows whether it changed: models/echo/1/model.plan"
    assert unseen in capsys.readouterr().err
    write_model(model.parent / "delta")
    assert main(["gate", "--checkout", str(model.parent / "delta"), "--out", str(out)]) == 0
    assert "new model: main" in capsys.readouterr().err
    assert not out.exists()


def test_always_compares_also_what_did_not_change(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("harness.cli.gating.executed", lambda *_, comparison: asked.append(comparison) or 3)
    assert main(["gate", "--checkout", str(model), "--base", "main"]) == 0
    assert asked == []
    assert main(["gate", "--checkout", str(model), "--base", "main", "--always"]) == 3
    assert asked[0].checkout.is_unchanged


def test_no_commit_commands_githubs_runner(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes `##[` for the beginning of a command anywhere in a line, and `::` at its beginning."""
    monkeypatch.setattr("harness.cli.gating.executed", lambda *_, **__: 0)
    write_model(model, delay_s=0.009)
    commit(model, "echo ##[add-mask]e \u2028::error::x")
    assert main(["gate", "--checkout", str(model), "--base", "main"]) == 0
    told = capsys.readouterr().err
    assert "add-mask]e" in told
    assert "##[" not in told
    assert not any(line.lstrip().startswith("::") for line in told.splitlines())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--checkout", "x", "--baseline", "grpc://a:1/m"], "--checkout has its own baseline"),
        (["--checkout", "x", "--url", "grpc://127.0.0.1:1"], "--url and --repository go together"),
        (["--checkout", "x", "--url", "grpc://127.0.0.1:1", "--repository", "no"], "no: no such folder: --repository"),
        (["--baseline", "grpc://a:1/m:1"], "give --baseline and --candidate"),
        (["--baseline", "grpc://a:1/m:1", "--base-folder", "x"], "--base-folder is for --checkout"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", *words]) == 2
    assert said in capsys.readouterr().err
