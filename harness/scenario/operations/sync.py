"""repo-sync, as its file describes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.scenario.fields import Wrong
from harness.scenario.operations.base import Operation
from harness.scenario.places import PlaceConfig, StoreConfig, both_embedded, from_file


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
