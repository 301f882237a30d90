"""What routes the users' traffic: where it goes in, and how its split is changed."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from harness.scenario.fields import HEADER, MODEL, ControlUrl, Section, Wrong
from harness.scenario.sections.tls import TlsConfig
from harness.types import Api
from harness.units import found

_CONTROL = r"^(haproxy\+unix:///|haproxy\+tcp://|envoy\+https?://|webhook\+https?://)\S+$"
_EXPECTED = (
    "expected haproxy+unix:///path/admin.sock?backend=NAME, haproxy+tcp://host:port?backend=NAME, "
    "envoy+http://host:port?key=NAME or webhook+http://host/path"
)


def _controls(value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not listed:
        raise ValueError(f"{_EXPECTED}, or a list of them, found {found(value)}")
    for one in listed:
        if not isinstance(one, str) or not re.match(_CONTROL, one):
            raise ValueError(f"{_EXPECTED}, found {found(one)}")
    return tuple(listed)


_ADDRESS = {"type": "string", "pattern": _CONTROL}
Controls = Annotated[
    tuple[str, ...],
    BeforeValidator(_controls),
    WithJsonSchema({"anyOf": [_ADDRESS, {"type": "array", "items": _ADDRESS, "minItems": 1}]}),
]


class IngressConfig(Section):
    """The router in front of the arms. Split stages send their requests to it, and it decides who gets them."""

    server: Literal["haproxy", "envoy"] | None = Field(
        None, description="a real one is started for the run, in front of the embedded Triton"
    )
    control: Controls | None = Field(
        None,
        strict=False,
        description="how its split is changed: haproxy+unix:///run/haproxy/admin.sock?backend=llm&baseline=v1&"
        "candidate=v2; several, where several routers share the traffic",
    )
    url: ControlUrl | None = Field(None, description="where the users' requests go in: http://host:port or grpc://")
    over: Literal["http", "grpc"] = Field(
        "http", description="with server: the way in; gRPC where each arm has a Triton of its own"
    )
    api: Api | None = Field(
        None, description="how requests are worded there; otherwise as to the baseline, over HTTP as far as it goes"
    )
    model: str | None = Field(
        None, min_length=1, pattern=MODEL, description="the model that users ask for; otherwise the baseline's"
    )
    headers: dict[str, str] = Field(
        default_factory=dict, description="sent with each request there; those of the arms are for their servers"
    )
    tls: TlsConfig | None = Field(None, description="certificates, where url is grpcs:// or https://")
    served_by: str = Field(
        "x-served-by",
        pattern=HEADER,
        description="the field of its answers that says who had the request, by the names of `control`",
    )

    @model_validator(mode="after")
    def _one_way(self) -> IngressConfig:
        if self.server is None:
            for key in ("control", "url"):
                if getattr(self, key) is None:
                    raise Wrong(f"give server: haproxy or envoy, or the control and url of a running one; no {key}")
            if "over" in self.model_fields_set:
                raise Wrong("the scheme of url says it; remove over", "over")
            if self.tls is not None and not str(self.url).startswith(("https://", "grpcs://")):
                raise Wrong(f"only grpcs:// and https:// use certificates; found {self.url}", "tls")
            return self
        if self.tls is not None:
            raise Wrong("the one that is started has no certificates; remove tls", "tls")
        for key in ("control", "url"):
            if getattr(self, key) is not None:
                raise Wrong(f"the one that is started has its own {key}; give server or {key}, not both", key)
        return self

    @property
    def speaks_grpc(self) -> bool:
        return self.over == "grpc" if self.url is None else self.url.startswith("grpc")
