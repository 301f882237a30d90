"""protobuf and Triton's own configuration classes, which have no types: Any from here on."""

from __future__ import annotations

from importlib import import_module
from typing import Any

json_format: Any = import_module("google.protobuf.json_format")
text_format: Any = import_module("google.protobuf.text_format")
ModelConfig: Any = import_module("tritonclient.grpc.model_config_pb2").ModelConfig
