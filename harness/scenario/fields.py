"""Field types that read a quantity as a person writes it, give it back so, and describe it to editors."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from harness import units
from harness.scenario.lengths import PATTERN, Lengths, format_lengths, parse_lengths
from harness.types import Gate
from harness.units import found

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MODEL = r"^[^/\s]+$"
REGION = r"^[a-z0-9_][a-z0-9_-]{0,39}$"
GPU_UUID = r"^(?:GPU|MIG)-[0-9A-Za-z-]+$"
DAY_S = 86400.0
HTTP = r"^https?://[^/\s]+"
HEADER = r"^[A-Za-z0-9-]+$"
PATTERNS = {
    NAME: "a name of letters, digits, . _ -",
    MODEL: "a name without spaces and slashes",
    REGION: "a name of small letters, digits, _ - such as eu-west-1",
    HEADER: "the name of a header such as x-served-by",
    HTTP: "a URL such as http://host:8333",
}
"""What a text has to look like, in words for errors."""


class Section(BaseModel):
    """A mapping of a scenario file: frozen, no key that is not known, no value that has to be bent to fit."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, serialize_by_alias=True, validate_by_alias=True)


class Wrong(ValueError):
    """A mistake that lies at `at`, seen from the model whose validator raises it."""

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at = at


def _quantity(parse: Callable[[Any], float], text: Callable[[float], str], pattern: str, example: str) -> Any:
    schema = {"type": "string", "pattern": pattern, "examples": [example]}
    return (BeforeValidator(parse), PlainSerializer(text, return_type=str), WithJsonSchema(schema))


Duration = Annotated[float, *_quantity(units.parse_duration, units.format_duration, units.DURATION_PATTERN, "90s")]
Rate = Annotated[float, *_quantity(units.parse_rate, units.format_rate, units.RATE_PATTERN, "1/s")]
Share = Annotated[float, *_quantity(units.parse_share, units.format_percent, units.PERCENT_PATTERN, "10%")]
Factor = Annotated[float, *_quantity(units.parse_factor, units.format_factor, units.FACTOR_PATTERN, "2x")]

Bytes = Annotated[float, *_quantity(units.parse_bytes, units.format_bytes, units.BYTES_PATTERN, "40GiB")]


def _level_json(level: float) -> int | str:
    return level if isinstance(level, int) else units.format_rate(level)


Level = Annotated[
    int | float,
    BeforeValidator(units.parse_level),
    PlainSerializer(_level_json),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": units.RATE_PATTERN}, {"type": "integer", "minimum": 1}]}),
]
"""A load, closed or open: an int is a number in flight, a float a rate."""
Levels = Annotated[tuple[Level, ...], Field(strict=False, min_length=1)]


Tokens = Annotated[
    Lengths,
    PlainValidator(parse_lengths),
    PlainSerializer(format_lengths),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": PATTERN}],
            "examples": ["lognormal 512 0.4"],
        }
    ),
]
"""A distribution of lengths in tokens."""


def memory_limit(value: Any) -> Gate:
    """The gate of `40GiB`, or of `90%` of what there is where it is used. Raises ValueError."""
    limit, share = units.parse_memory(value)
    return Gate("memory.peak", limit=limit, limit_kind="share" if share else "absolute")


def memory_text(gate: Gate) -> str:
    """`40GiB`, `90%`."""
    assert gate.limit is not None
    return units.format_percent(gate.limit) if gate.limit_kind == "share" else units.format_bytes(gate.limit)


MemoryLimit = Annotated[
    Gate,
    PlainValidator(memory_limit),
    PlainSerializer(memory_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": units.MEMORY_PATTERN, "examples": ["90%", "40GiB"]}),
]
"""The most that a peak of memory may be: a gate with a limit."""


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or any(type(size) is not int or size < 1 for size in value):
        raise ValueError(f"expected sizes from 1 up such as [3, 224, 224], found {found(value)}")
    return tuple(value)


Shape = Annotated[
    tuple[int, ...],
    PlainValidator(_shape),
    WithJsonSchema({"type": "array", "items": {"type": "integer", "minimum": 1}}),
]


def _gpu(value: Any) -> int | str:
    if (type(value) is int and value >= 0) or (isinstance(value, str) and re.fullmatch(GPU_UUID, value)):
        return value
    raise ValueError(f"expected the number of a GPU such as 0, or its UUID (GPU-...), found {found(value)}")


Gpu = Annotated[
    int | str,
    PlainValidator(_gpu),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": GPU_UUID}]}),
]
"""One GPU: NVML numbers them, Triton's own metrics name them by UUID."""


def _burstiness(value: Any) -> float:
    number = units.parse_number(value)
    if not 0.01 <= number <= 1000:
        raise ValueError(f"expected a number from 0.01 to 1000 (1 is Poisson, below it bursts), found {found(value)}")
    return number


Burstiness = Annotated[
    float,
    BeforeValidator(_burstiness),
    WithJsonSchema({"type": "number", "minimum": 0.01, "maximum": 1000}),
]


def between(value: float, least: float, most: float, *at: str) -> None:
    """Raises Wrong at `at` unless a duration in seconds is within the limits (both allowed)."""
    if not least <= value <= most:
        low, high = units.format_duration(least), units.format_duration(most)
        raise Wrong(f"expected {low} to {high}, found {units.format_duration(value)}", *at)


def _server_url(*schemes: str) -> Callable[[Any], Any]:
    """Reads SCHEME://host:port, without a slash at the end."""
    expected = f"expected {' or '.join(f'{scheme}://host:port' for scheme in schemes)}"

    def read(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, str):
            raise ValueError(f"{expected}, found {found(value)}")
        try:
            parts = urlsplit(value)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"{expected}, found {found(value)} ({error})") from error
        if parts.scheme not in schemes:
            raise ValueError(f"{expected}, found {found(value)}")
        if not host or port is None or re.search(r"\s", value):
            raise ValueError(f"{expected}, found {found(value)}" + ("" if port else ": no port"))
        if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
            raise ValueError(f"{expected} and nothing more, found {found(value)}")
        return f"{parts.scheme}://{parts.netloc}"

    return read


def _metrics_urls(value: Any) -> tuple[str, ...]:
    """One address, or a list of them."""
    if value is None:
        return ()
    urls = tuple(value) if isinstance(value, list | tuple) else (value,)
    for index, url in enumerate(urls):
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected a URL such as http://host:8002/metrics, or a list of them, found {found(url)}")
        if url in urls[:index]:
            raise ValueError(f"{url} is there twice")
    return urls


def path_of(value: str, key: str, info: ValidationInfo) -> str:
    """A path in the file is seen from the file's folder, one in an argument from the working directory.

    `key`: where it was written, such as "target.repository".
    """
    bases = info.context or {}
    while key and key not in bases:
        key = key.rpartition(".")[0]  # an argument may have given the whole section
    base: Path = bases.get(key, Path())
    path = Path(value).expanduser()
    return str(path if path.is_absolute() else base / path)


def _url_field(*schemes: str) -> Any:
    schema = {"type": "string", "pattern": f"^({'|'.join(schemes)})://[^/]+:[0-9]+/?$"}
    return (BeforeValidator(_server_url(*schemes)), WithJsonSchema(schema))


ControlUrl = Annotated[str, *_url_field("grpc", "http", "grpcs", "https")]
_PAGE = {"type": "string", "pattern": "^https?://.+"}
MetricsUrls = Annotated[
    tuple[str, ...],
    BeforeValidator(_metrics_urls),
    WithJsonSchema({"anyOf": [_PAGE, {"type": "array", "items": _PAGE}]}),
]
"""The pages of a target: its Triton's, a DCGM exporter's, an engine's own."""


def _build(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value):
        return value
    scalars = str | int | float | bool
    if isinstance(value, dict) and value and all(isinstance(part, scalars) for part in value.values()):
        return value
    raise ValueError(f"expected the name of a build such as fp8, or its settings, found {found(value)}")


Build = Annotated[Any, BeforeValidator(_build), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]})]
