"""Where Triton is, and who is compared."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.scenario.fields import MODEL, Build, Bytes, ControlUrl, Gpu, MetricsUrls, Section, Wrong, path_of
from harness.scenario.sections.outcome import Command
from harness.scenario.sections.tls import TlsConfig
from harness.types import Api, Arm
from harness.units import found


class TargetConfig(Section):
    """Where Triton is."""

    server: Literal["embedded"] | None = Field(None, description="embedded: a Triton is started for the run")
    url: ControlUrl | None = Field(None, description="a Triton that runs already: grpc://host:port")
    metrics_url: MetricsUrls = Field(
        (), description="its metrics: http://host:8002/metrics; or a list: of its Triton, a DCGM exporter, an engine"
    )
    repository: str | None = Field(
        None,
        min_length=1,
        description="its model repository, where this machine sees it; from the file's folder",
    )
    versioned_clients: bool = Field(
        False, description="every client names its version, so a higher one may be loaded while requests arrive"
    )
    swap: bool = Field(
        False,
        description="the two versions do not fit into memory together: each is loaded for its turns alone, in "
        "sequential stages, on a server that nobody else uses",
    )
    needs_memory: Bytes | None = Field(
        None,
        description="what the candidate takes once it is loaded, of each GPU that it uses or of the host, where that "
        "is known better than it was measured; it is held against what is free before the load",
    )
    even_if_it_does_not_fit: bool = Field(
        False, description="the candidate is loaded although it does not seem to fit beside what serves"
    )

    @model_validator(mode="after")
    def _one_place(self) -> TargetConfig:
        if self.server is None:
            return self
        for key in ("url", "metrics_url", "repository"):
            if getattr(self, key):
                raise Wrong(f"the embedded server has its own {key}; give server or {key}, not both", key)
        return self

    def url_of(self, arm: ArmConfig) -> str | None:
        """The arm's own server, else this one; None for the embedded one."""
        return arm.url or self.url

    @field_validator("repository", mode="after")
    @classmethod
    def _from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, "target.repository", info) if value else value


class CalledConfig(Section):
    """A model, and how it is called."""

    model: str = Field(min_length=1, pattern=MODEL, description="the model's name in the repository")
    version: int | None = Field(None, ge=1, description="the version; without one Triton picks the highest")
    build: Build | None = Field(None, description="embedded server only: which build of the demonstration model")
    api: Api = Field(
        "kserve",
        description="how requests are worded; kserve: the v2 protocol; generate: Triton's generate extension; "
        "openai: the OpenAI-compatible front end (these two over HTTP)",
    )
    stream: bool = Field(True, description="tokens as they come, where api and model can")
    tls: TlsConfig | None = Field(None, description="certificates, where the address is grpcs:// or https://")
    headers: dict[str, str] = Field(default_factory=dict, description="sent with each of its requests")
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameters of its requests")

    @field_validator("parameters", mode="after")
    @classmethod
    def _scalars(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, part in value.items():
            if not isinstance(part, str | int | float | bool):
                raise Wrong(f"expected text, a number, true or false, found {found(part)}", name)
        return value

    def check_address(self, url: str | None, *at: str | int) -> None:
        """Raises Wrong at `at` where the api does not travel over that address (None: the embedded server's), or
        certificates are given and not used.
        """
        if url is None:
            if self.api == "openai":
                raise Wrong("the embedded server has no OpenAI front end; give the url of one", *at, "api")
            if self.tls is not None:
                raise Wrong("the embedded server has no certificates; remove tls", *at, "tls")
            return
        scheme = url.partition("://")[0]
        if self.api != "kserve" and scheme in ("grpc", "grpcs"):
            raise Wrong(f"the {self.api} api travels over HTTP; found {url}", *at, "api")
        if self.tls is not None and scheme in ("grpc", "http"):
            raise Wrong(f"only grpcs:// and https:// use certificates; found {url}", *at, "tls")

    def arm(self, url: str) -> Arm:
        """It, called at this address."""
        return Arm(
            url=url, model=self.model, version=self.version, headers=self.headers, parameters=self.parameters,
            api=self.api, stream=self.stream, tls=self.tls.tls() if self.tls else None,
        )  # fmt: skip


class ArmConfig(CalledConfig):
    """One side of the comparison."""

    url: ControlUrl | None = Field(None, description="this arm's own server; otherwise target.url")
    server: Literal["embedded"] | None = Field(
        None, description="embedded: a Triton of its own is started for it, beside that of target"
    )
    repository: str | None = Field(
        None,
        min_length=1,
        description="the model repository of its own server, where this machine sees it: versions may be brought, "
        "loaded and unloaded there; from the file's folder",
    )
    start: Command | None = Field(None, description="the command that starts its own server; twice does no harm")
    stop: Command | None = Field(None, description="the command that stops it; twice does no harm")
    gpus: tuple[Gpu, ...] = Field(
        (), strict=False, description="the GPUs that serve this arm and nothing else, as nvidia-smi numbers them: [1]"
    )

    @field_validator("gpus", mode="after")
    @classmethod
    def _each_once(cls, value: tuple[int | str, ...]) -> tuple[int | str, ...]:
        for index, gpu in enumerate(value):
            if gpu in value[:index]:
                raise Wrong(f"GPU {gpu} is there twice", index)
        return value

    @model_validator(mode="after")
    def _own_server(self) -> ArmConfig:
        if self.server is not None and self.url is not None:
            raise Wrong("the one that is started has its own url; give server or url, not both", "url")
        for key in ("repository", "start", "stop"):
            if getattr(self, key) is None:
                continue
            if self.server is not None:
                raise Wrong(f"the embedded server needs no {key}; give server or {key}, not both", key)
            if self.url is None:
                raise Wrong(f"{key} is of the arm's own server: give its url, too", key)
        if self.start is not None and self.stop is None:
            raise Wrong("what is started for the run is stopped again if it fails: give stop, too", "start")
        return self

    @property
    def own(self) -> bool:
        """It has a server of its own."""
        return self.url is not None or self.server is not None

    @property
    def operated(self) -> bool:
        """Versions may be loaded and unloaded where it serves: that is not so on a server that is only compared."""
        return self.url is None or self.repository is not None

    @property
    def stoppable(self) -> bool:
        """Its own server can be stopped."""
        return self.server is not None or self.stop is not None

    @property
    def devices(self) -> tuple[str, ...]:
        """What readings call its GPUs."""
        return tuple(f"gpu{gpu}" if isinstance(gpu, int) else gpu for gpu in self.gpus)
