"""protobuf and Triton's own configuration classes, which have no types: Any from here on. And text to them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from harness.errors import UsageError

json_format: Any = import_module("google.protobuf.json_format")
text_format: Any = import_module("google.protobuf.text_format")
ModelConfig: Any = import_module("tritonclient.grpc.model_config_pb2").ModelConfig


def text_of(content: bytes, name: str) -> str:
    """The text of a configuration. Raises UsageError, naming `name`, where it is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: is not a model configuration: not UTF-8") from error


def parse(text: str, name: str) -> Any:
    """The ModelConfig that `text` says. Raises UsageError, naming `name`, where it is none."""
    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise UsageError(f"{name}: is not a model configuration: {' '.join(str(error).split())}") from error
