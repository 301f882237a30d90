"""Where models lie and where they serve: the places that a scenario names."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from harness.scenario.fields import HTTP, REGION, ControlUrl, Section, Wrong, path_of
from harness.units import found

_STORE = "expected s3://bucket/prefix, artifactory+https://host/artifactory/repository/path, file:///path or a folder"


def _store_url(value: Any) -> Any:
    scheme = re.match(r"([a-z0-9+]+)://.", value) if isinstance(value, str) else None
    if not isinstance(value, str) or not value or ("://" in value and scheme is None):
        raise ValueError(f"{_STORE}, found {found(value)}")
    if scheme and scheme[1] not in ("s3", "artifactory+https", "artifactory+http", "file"):
        raise ValueError(f"{_STORE}, found {found(value)}")
    return value


StoreUrl = Annotated[str, BeforeValidator(_store_url), WithJsonSchema({"type": "string", "minLength": 1})]


class StoreConfig(Section):
    """Where built versions lie. Credentials come from the environment alone."""

    server: Literal["embedded"] | None = Field(None, description="embedded: an S3 server is started for the run")
    url: StoreUrl | None = Field(
        None, description="s3://bucket/prefix, artifactory+https://host/artifactory/repository/path, or a folder"
    )
    endpoint: str | None = Field(None, pattern=HTTP, description="of an S3 that is not Amazon's")

    @model_validator(mode="after")
    def _one_place(self) -> StoreConfig:
        if self.server is None and self.url is None:
            raise Wrong("give server: embedded, or the url of a store")
        if self.server is not None and self.url is not None:
            raise Wrong("the embedded store has its own url; give server or url, not both", "url")
        if self.endpoint is not None and not (self.url or "").startswith("s3://"):
            raise Wrong("only an s3:// store has an endpoint", "endpoint")
        return self

    @field_validator("url", mode="after")
    @classmethod
    def _from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, "store.url", info) if value and "://" not in value else value


class PlaceConfig(Section):
    """A Triton and the model repository that it reads."""

    server: Literal["embedded"] | None = Field(None, description="embedded: a Triton is started for the run")
    url: ControlUrl | None = Field(None, description="a Triton that runs already: grpc://host:port")
    repository: str | None = Field(
        None, min_length=1, description="its model repository, where this machine sees it; from the file's folder"
    )

    @model_validator(mode="after")
    def _one_place(self) -> PlaceConfig:
        if self.server is None and (self.url is None or self.repository is None):
            missing = "url" if self.url is None else "repository"
            raise Wrong(f"give server: embedded, or the url and repository of a running Triton; found no {missing}")
        for key in ("url", "repository"):
            if self.server is not None and getattr(self, key) is not None:
                raise Wrong(f"the embedded server has its own {key}; give server or {key}, not both", key)
        return self

    @property
    def place(self) -> str:
        return self.url or "an embedded Triton"


class RegionConfig(PlaceConfig):
    """A server, or what stands for several, with a repository of its own."""

    name: str = Field(pattern=REGION, description="small letters, digits, dash: eu-west-1")


_Place = TypeVar("_Place", bound=PlaceConfig)


def from_file(place: _Place, key: str, info: ValidationInfo) -> _Place:
    """`place`, its repository seen from where it was written."""
    if place.repository is None:
        return place
    return place.model_copy(update={"repository": path_of(place.repository, f"{key}.repository", info)})


def both_embedded(store: StoreConfig, place: PlaceConfig, *at: str | int) -> None:
    """Raises Wrong where only one of them is: the demonstration's models are nobody else's, and need nobody else's."""
    if (place.server is None) != (store.server is None):
        raise Wrong("the store and every Triton are embedded, or none is", *at)
