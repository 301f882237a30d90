"""What is done to models beside a canary, as data: the kinds of scenario that a `kind:` key names.

The same rules as in `model`: frozen, strict, the field descriptions are the reference of the format.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from harness.scenario.fields import MODEL, NAME, Duration, Rate, Section, Wrong, between, path_of
from harness.scenario.places import PlaceConfig, RegionConfig, StoreConfig, both_embedded, from_file
from harness.scenario.prompts import read_prompts
from harness.scenario.units import format_duration, format_rate

HOUR_S = 3600.0


class Operation(Section):
    """What the kinds have in common."""

    kind: str
    name: str = Field(pattern=NAME, description="letters, digits, dot, dash; names the folder")
    description: str = Field("", description="one line for people")

    @property
    @abstractmethod
    def steps(self) -> tuple[str, ...]:
        """What will be done, in order, for people."""

    @property
    @abstractmethod
    def embedded(self) -> bool:
        """Whether it shows itself on a Triton of its own."""


class RepoSync(Operation):
    """Bring a store's models into a repository, and load what changed."""

    kind: Literal["repo-sync"]
    store: StoreConfig = Field(description="where the versions come from")
    target: PlaceConfig = Field(description="where they go")
    models: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="only these; without any, every model of the store"
    )
    load: Literal["add", "latest"] = Field(
        "add", description="add: changed versions beside those that serve; latest: only the highest serves afterwards"
    )
    versioned_clients: bool = Field(
        False, description="every client names its version, so a higher one may be loaded while requests arrive"
    )

    @field_validator("target", mode="after")
    @classmethod
    def _from_file(cls, value: PlaceConfig, info: ValidationInfo) -> PlaceConfig:
        return from_file(value, "target", info)

    @model_validator(mode="after")
    def _together(self) -> RepoSync:
        both_embedded(self.store, self.target, "target")
        if self.embedded and self.models:
            raise Wrong("the embedded store has models of its own; remove models", "models")
        return self

    @property
    def embedded(self) -> bool:
        return self.target.server is not None

    @property
    def steps(self) -> tuple[str, ...]:
        if not self.embedded:
            what = ", ".join(self.models) or "every model"
            return (
                f"note the files and the request counters of {what} on {self.target.place}",
                f"bring what changed from {self.store.url} into {self.target.repository}, verified by SHA-256",
                f"load the changed models only ({self.load}), each version answers a probe",
                "note files and counters again: what did not change was not touched",
            )
        return (
            "start an S3 server and a Triton with an empty repository",
            "publish two models, sync: both arrive, verified, and are loaded",
            "publish version 2 of one of them, sync: the other is not touched",
            "publish a version whose bytes are not those of its manifest, sync: refused, nothing is touched",
        )


class MultiRegion(Operation):
    """One build, one bucket, several regions that have to serve the same."""

    kind: Literal["multi-region"]
    store: StoreConfig = Field(description="the one bucket")
    regions: Annotated[tuple[RegionConfig, ...], Field(strict=False)] = Field(
        description="at least two, each with a Triton and a repository of its own", json_schema_extra={"minItems": 2}
    )
    model: str = Field(min_length=1, pattern=MODEL, description="the model's name in the store")
    version: int = Field(ge=1, description="the version that every region shall serve")
    probes: int = Field(8, ge=1, le=1000, description="requests of the probe set; each is asked twice in each region")
    seed: int = Field(1, ge=0, lt=2**31, description="fixes the probe set")
    prompts: str | None = Field(
        None, min_length=1, description='the probes of a model with text_input: JSON lines of {"prompt": "..."}'
    )
    versioned_clients: bool = Field(
        False, description="every client names its version, so a higher one may be loaded while requests arrive"
    )

    _texts: tuple[str, ...] = PrivateAttr(default=())

    @property
    def asked(self) -> tuple[tuple[int, str | None], ...]:
        """The probe set: of each the seed, and the prompt if there are prompts."""
        texts: tuple[str | None, ...] = self._texts[: self.probes] or (None,) * self.probes
        return tuple((self.seed + number, text) for number, text in enumerate(texts))

    @field_validator("prompts", mode="after")
    @classmethod
    def _prompts_from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, "prompts", info) if value else value

    @model_validator(mode="after")
    def _read(self) -> MultiRegion:
        if self.prompts is not None:
            try:
                self._texts = read_prompts(Path(self.prompts))
            except ValueError as error:
                raise Wrong(str(error), "prompts") from error
        return self

    @field_validator("regions", mode="after")
    @classmethod
    def _from_file(cls, value: tuple[RegionConfig, ...], info: ValidationInfo) -> tuple[RegionConfig, ...]:
        return tuple(from_file(region, f"regions.{index}", info) for index, region in enumerate(value))

    @model_validator(mode="after")
    def _together(self) -> MultiRegion:
        if len(self.regions) < 2:
            raise Wrong(f"expected at least two regions, found {len(self.regions)}", "regions")
        seen: dict[str, int] = {}
        for index, region in enumerate(self.regions):
            for key in ("name", "url", "repository"):
                value = getattr(region, key)
                first = seen.setdefault(f"{key} {value}", index) if value is not None else index
                if first != index:
                    raise Wrong(f"regions {first} and {index} have the same {key}: {value}", "regions", index, key)
            both_embedded(self.store, region, "regions", index)
        if self.embedded and self.version == 1:
            raise Wrong("embedded regions serve version 1 already; give a higher one", "version")
        return self

    @property
    def embedded(self) -> bool:
        return self.store.server is not None

    @property
    def steps(self) -> tuple[str, ...]:
        what = f"{self.model} version {self.version}"
        names = ", ".join(region.name for region in self.regions)
        steps = [f"read the manifest of {what} in {self.store.url}"]
        if self.embedded:
            steps = [
                f"start an S3 server, and a Triton with a repository of its own for each of {names}",
                f"build {what} once, publish it to the one bucket",
            ]
        return (
            *steps,
            f"in each region ({names}): sync from the bucket, load version {self.version} beside those that serve",
            "hash every file of each region's repository again: the bytes are those of the manifest",
            f"ask {len(self.asked)} probes twice in each: answers differ no more between regions than within one",
            f"a region that fails serves what it served before; the others keep version {self.version}",
        )


class RetireModel(Operation):
    """Take out a version that nobody asks any more."""

    kind: Literal["retire-model"]
    target: PlaceConfig = Field(description="where it serves")
    model: str = Field(min_length=1, pattern=MODEL, description="the model's name in the repository")
    version: int = Field(ge=1, description="the version that goes")
    window_s: Duration = Field(10.0, alias="window", description="this long no request may arrive at it")
    then: Literal["archive", "remove"] = Field("archive", description="what becomes of its directory")
    archive: str | None = Field(None, min_length=1, description="the archive's folder; otherwise in that of the run")
    steady: Rate | None = Field(
        None, description="probes a second to the highest version that stays, during all of it; none: counters only"
    )
    stray: Rate | None = Field(
        None, description="embedded server only: requests a second that somebody still sends to the version"
    )

    @field_validator("target", mode="after")
    @classmethod
    def _from_file(cls, value: PlaceConfig, info: ValidationInfo) -> PlaceConfig:
        return from_file(value, "target", info)

    @field_validator("archive", mode="after")
    @classmethod
    def _archive_from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, "archive", info) if value else value

    @model_validator(mode="after")
    def _fits(self) -> RetireModel:
        between(self.window_s, 0.5, HOUR_S, "window")
        if self.archive is not None and self.then != "archive":
            raise Wrong(f"then: {self.then} makes no archive; remove archive", "archive")
        for key in ("steady", "stray"):
            if (getattr(self, key) or 0.0) > 200:
                raise Wrong("expected at most 200/s", key)
        if self.stray is not None and not self.embedded:
            raise Wrong("only the embedded server gets strays that are made for it", "stray")
        return self

    @property
    def embedded(self) -> bool:
        return self.target.server is not None

    @property
    def steps(self) -> tuple[str, ...]:
        going = f"{self.model} version {self.version}"
        stray = f"; send {format_rate(self.stray)} to version {self.version}" if self.stray else ""
        first = f"start a Triton that serves {going} and version {self.version + 1}{stray}"
        steady = f"send {format_rate(self.steady)} to what stays, until the end" if self.steady else ""
        return (
            first if self.embedded else f"check that {going} serves on {self.target.place}, and another version too",
            *([steady] if steady else []),
            f"watch Triton's counters for {format_duration(self.window_s)}: a request at version {self.version}, "
            "whoever sends it, ends it here and nothing is changed",
            f"unload version {self.version}, and see that Triton confirms it",
            f"{self.then} its directory",
            "what stays answered every request meanwhile",
        )


KINDS: dict[str, type[Operation]] = {"repo-sync": RepoSync, "multi-region": MultiRegion, "retire-model": RetireModel}
"""By the word that the file's `kind:` key takes; without that key a file is a canary."""
