"""multi-region, as its file describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from harness.scenario.fields import MODEL, Wrong, path_of
from harness.scenario.operations.base import Operation
from harness.scenario.places import RegionConfig, StoreConfig, both_embedded, from_file
from harness.scenario.prompts import read_prompts


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
                self._texts = tuple(prompt.text for prompt in read_prompts(Path(self.prompts)))
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
