"""A model folder of a git working tree, beside the same folder of the branch that it is to be merged into.

It only looks: which commit is the base, what the two builds are, and what differs between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.run.builds import CONFIG, Build, Files, beside, build_of, versions_of
from harness.store import GitFile, GitRepository
from harness.triton import changed_values
from harness.types import ArmName

MOST_COMMITS = 20
MOST_FILES = 100
VARIABLES = ("GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
"""Where GitHub says what a pull request is for, and GitLab a merge request."""
USUAL = ("origin/HEAD", "origin/main", "main")
WHOLE_HISTORY = (
    "get the whole history: GitHub: actions/checkout with `fetch-depth: 0`; GitLab: the variable `GIT_DEPTH: 0`; "
    "by hand: git fetch --unshallow origin"
)
HERE = "the working tree"


@dataclass(frozen=True)
class Checkout:
    """`base` and `head` are commits, and `ref` is what the base was called.

    `base_build` is None where the base has no such model. `about`: what run.json says of all this, under `git`.
    """

    repository: GitRepository
    folder: str
    ref: str
    base: str
    head: str
    base_build: Build | None
    head_build: Build
    about: Mapping[str, Any]

    @property
    def builds(self) -> dict[ArmName, Build]:
        """Both. Only where the base has the model."""
        assert self.base_build is not None
        return {"baseline": self.base_build, "candidate": self.head_build}

    @property
    def is_unchanged(self) -> bool:
        return self.base_build is not None and not self.about["changed"]

    @property
    def base_words(self) -> str:
        """ "origin/main (1a2b3c4)"."""
        return f"{self.ref} ({self.base[:7]})" if not self.base.startswith(self.ref) else self.base[:7]

    def names(self, arm: ArmName, token: str) -> dict[str, str]:
        """What the models of a build are called where they serve: nothing else there has such a name."""
        side, commit = ("base", self.base) if arm == "baseline" else ("head", self.head)
        return {model: f"{model}.{side}-{commit[:7]}-{token}" for model in self.builds[arm].files}


def look(
    given: Path, *, model: str | None, base: str | None, base_folder: str | None, environment: Mapping[str, str]
) -> Checkout:  # fmt: skip
    """What there is to compare. `given`: a model's folder, or with `model` the repository of models that holds it;
    `base_folder`: what the model's folder is called in the base, from the root of the git repository, if differently.

    Raises UsageError: no such folder, model or base, a clone without its base, contents that are not there.
    """
    asked = given if model is None else given / model
    place = asked.resolve()
    if not place.is_dir():
        raise UsageError(f"{asked}: no such folder in the working tree")
    repository = GitRepository(place)
    root = repository.root.resolve()
    if link := _link(asked, root):
        raise UsageError(f"{link}: is a link, and git has of it only where it leads: give the folder itself: {place}")
    folder = "/".join(place.relative_to(root).parts)
    ref, commit, head = _base(repository, base, environment)

    def here(_: str, at: str) -> tuple[Files, Files]:
        return _by_path(repository.here(at), at), _by_path(repository.here(at, ignored=True), at)

    listed = repository.here(folder)
    if not versions_of(_by_path(listed, folder)) and CONFIG not in _by_path(listed, folder):
        raise UsageError(f"{given}: holds no model: {_models_in(place)}")
    mine = build_of(repository, folder, place.name, here, HERE)
    assert mine is not None
    old_folder = folder if base_folder is None else base_folder.strip("/")
    if {"", ".", ".."} & set(old_folder.split("/")) and old_folder != folder:
        raise UsageError(f"--base-folder {base_folder}: expected a path from the root of the git repository")
    old_model = place.name if base_folder is None else old_folder.rpartition("/")[2]

    def there(name: str, at: str) -> tuple[Files, Files]:
        files = _by_path(repository.at(commit, at), at)
        shared = mine.shared.get(place.name if name == old_model else name, {})
        return files, {path: file for path, file in shared.items() if path not in files}

    theirs = build_of(repository, old_folder, old_model, there, f"{ref} ({commit[:7]})")
    if theirs is None and base_folder is not None:
        raise UsageError(f"--base-folder {base_folder}: {ref} ({commit[:7]}) has no such folder")
    folders = [folder if name == place.name else beside(folder, name) for name in sorted(mine.files)]
    about = {
        "base": commit, "ref": ref, "head": head, "dirty": repository.is_dirty(folders),
        "folder": folder, "model": place.name,
        "ignored": sorted(file.path for files in mine.shared.values() for file in files.values())[:MOST_FILES],
        **({} if theirs is None else _differences(repository, theirs, mine)),
        **_commits(repository, commit, head, folders),
    }  # fmt: skip
    return Checkout(repository, folder, ref, commit, head, theirs, mine, about)


def _link(asked: Path, root: Path) -> Path | None:
    """The link inside of the working tree by which a folder was asked for: it may have led elsewhere in the base."""
    place = asked.absolute()
    return next(
        (path for path in (place, *place.parents) if path.is_symlink() and path.parent.resolve().is_relative_to(root)),
        None,
    )


def _base(repository: GitRepository, asked: str | None, environment: Mapping[str, str]) -> tuple[str, str, str]:
    """What the base is called, its commit (where HEAD left it), and HEAD's."""
    head = repository.commit("HEAD")
    if head is None:
        raise UsageError(f"{repository.root}: has no commit yet, so there is nothing to compare with")
    named = [f"origin/{environment[name]}" for name in VARIABLES if environment.get(name)]
    if asked is None and not named and repository.is_submodule:
        raise UsageError(f"{repository.root}: is a submodule, with branches of its own: name the base (--base COMMIT)")
    choice = [asked] if asked is not None else named[:1] or USUAL
    ref = next((ref for ref in choice if repository.commit(ref)), None)
    if ref is None:
        advice = WHOLE_HISTORY if repository.is_shallow else "name another with --base, or fetch it: git fetch origin"
        raise UsageError(f"{', '.join(choice)}: not known in {repository.root}: {advice}")
    commit = repository.merge_base("HEAD", ref)
    if commit is None:
        why = f"in this clone, which has only a part of it: {WHOLE_HISTORY}" if repository.is_shallow else "in common"
        raise UsageError(f"{ref} and HEAD have no history {why}")
    return ref, commit, head


def _by_path(files: Sequence[GitFile], folder: str) -> Files:
    return {file.path.removeprefix(f"{folder}/") if folder else file.path: file for file in files}


def _models_in(place: Path) -> str:
    """What is to be done about a folder that is no model's."""
    found = sorted(config.parent.name for config in place.glob(f"*/{CONFIG}"))
    if not found:
        return f"a model's folder has a {CONFIG}, and a folder for each version"
    return f"it is a repository of {', '.join(found)}: say which with --model {found[0]}"


def _differences(repository: GitRepository, base: Build, head: Build) -> dict[str, Any]:
    """What of the two is not the same: files by name and size, and the values of the configurations."""
    changed: list[dict[str, Any]] = []
    config: list[dict[str, str]] = []
    for model, files in head.files.items():
        name = base.model if model == head.model else model
        old, new = base.files.get(name, {}), files
        both = [path for path in old if path in new]
        same = dict(zip(both, repository.same([(old[path], new[path]) for path in both]), strict=True))
        changed += [
            {"path": f"{model}/{path}", "before": _size(old.get(path)), "after": _size(new.get(path))}
            for path in sorted({*old, *new})
            if not same.get(path, False)
        ]
        values = changed_values(base.configs.get(name, {}), head.configs[model])
        config += [{"file": f"{model}/{CONFIG}", "key": k, "before": b, "after": a} for k, b, a in values]
    gone = [model for model in base.files if model not in head.files and model != base.model]
    changed += [
        {"path": f"{model}/{path}", "before": file.size, "after": None}
        for model in gone
        for path, file in sorted(base.files[model].items())
    ]
    return {"changed": changed[:MOST_FILES], "changed_count": len(changed), "config": config[:MOST_FILES]}


def _size(file: GitFile | None) -> int | None:
    return None if file is None else file.size


def _commits(repository: GitRepository, base: str, head: str, folders: Sequence[str]) -> dict[str, Any]:
    """Those between the two that touch the model."""
    found = repository.commits(base, head, folders)
    listed = [{"sha": commit.sha, "subject": commit.subject} for commit in found[:MOST_COMMITS]]
    return {"commits": listed, "commit_count": len(found)}
