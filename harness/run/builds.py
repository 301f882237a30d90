"""The two builds of a model that a checkout holds: that of the working tree, and that of its base. Nothing is changed.

Guarantee: what is compared is what git has of the base and what lies in the working tree now, files that are not in
git included: those that git ignores (downloaded weights) are given to the base, too, where it has none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UsageError
from harness.run.placed import MARK
from harness.store import GitFile, GitRepository
from harness.triton import parse_config, steps

CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class Build:
    """A model with the models that it is made of, where it is an ensemble; `model` is the one that is asked.

    `files`: by model, and by their path in its folder. `configs`: what config.pbtxt says, {} without one. `versions`:
    those of each model that serve; of `model` it is one. `shared`: those of `files` that git ignores.
    """

    model: str
    files: Mapping[str, Mapping[str, GitFile]]
    configs: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, tuple[int, ...]]
    shared: Mapping[str, Mapping[str, GitFile]] = field(default_factory=dict)

    @property
    def version(self) -> int:
        return self.versions[self.model][0]

    @property
    def order(self) -> tuple[str, ...]:
        """Its models in the order in which they are loaded: steps before what asks them."""
        found: list[str] = []
        seen: set[str] = set()

        def add(model: str) -> None:
            if model in seen:  # also of one that asks itself, which Triton refuses in its own words
                return
            seen.add(model)
            for step, _ in steps(self.configs[model]):
                add(step)
            found.append(model)

        add(self.model)
        return tuple(found)

    def placed(self, model: str) -> dict[str, GitFile]:
        """The files of it that are needed: those of versions that do not serve are not, nor is a mark of old."""
        unused = [str(version) for version in versions_of(self.files[model]) if version not in self.versions[model]]
        unused.append(MARK)
        return {path: file for path, file in self.files[model].items() if path.partition("/")[0] not in unused}


Files = Mapping[str, GitFile]
Listed = Callable[[str, str], tuple[Files, Files]]
"""From a model and its folder to the files there, by their path in it; and to more of them, which git ignores."""


def build_of(repository: GitRepository, folder: str, model: str, listed: Listed, where: str) -> Build | None:
    """The build of `model`, which lies in `folder`; its steps, if it has any, lie beside it. None where there is none.

    Raises UsageError where its configuration cannot be read, where a step of an ensemble is missing, or a version.
    """
    files: dict[str, Files] = {}
    shared: dict[str, Files] = {}
    configs: dict[str, Mapping[str, Any]] = {}
    wanted: dict[str, set[int]] = {}
    waiting = [(model, -1)]
    while waiting:
        name, version = waiting.pop()
        if name not in files:
            place = folder if name == model else beside(folder, name)
            found, shared[name] = listed(name, place)
            if not found:
                if name == model:
                    return None
                raise UsageError(f"{model} is an ensemble with the step {name}, and {where} has no {place}")
            files[name] = {**shared[name], **found}
            config = files[name].get(CONFIG)
            about = {} if config is None else parse_config(repository.read(config), f"{config.path} in {where}")
            configs[name] = about
            waiting += steps(about)
            for step, _ in steps(about):
                if "/" in step or step in ("", ".", ".."):
                    raise UsageError(f"{name} is an ensemble in {where}, and its step {step!a} is no name of a model")
        wanted.setdefault(name, set()).add(_version(name, version, files[name], configs[name], where))
    versions = {name: tuple(sorted(numbers)) for name, numbers in wanted.items()}
    return Build(model, files, configs, versions, shared)


def beside(folder: str, name: str) -> str:
    """The folder of another model of the same model repository."""
    return "/".join(part for part in (folder.rpartition("/")[0], name) if part)


def versions_of(files: Files) -> tuple[int, ...]:
    """The version folders among the files of a model. Triton skips names with a leading zero, too."""
    names = {path.partition("/")[0] for path in files if "/" in path}
    return tuple(sorted(int(name) for name in names if name.isascii() and name.isdigit() and name[0] != "0"))


def _version(model: str, asked: int, files: Files, config: Mapping[str, Any], where: str) -> int:
    """The version that a request is answered by: of those that the policy lets serve the highest."""
    there = versions_of(files)
    if not there and config.get("platform") == "ensemble":
        there = (1,)  # its folder is empty, and git keeps no empty folders
    specific = config.get("version_policy", {}).get("specific", {}).get("versions", ())
    serving = [version for version in there if str(version) in map(str, specific)] if specific else list(there)
    if asked > 0:
        serving = [version for version in there if version == asked]
    if not serving:
        which = f"version {asked}" if asked > 0 else f"versions {list(map(int, specific))}" if specific else "version"
        raise UsageError(f"{model} has no {which} in {where} (a folder such as {model}/1): there are {list(there)}")
    return max(serving)
