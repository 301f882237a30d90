"""Triton's generate extension: JSON in, JSON out (`generate`) or server-sent events (`generate_stream`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.errors import UsageError
from harness.load.payload.head import head, model_path
from harness.load.payload.llm import parameters
from harness.load.template import REQUEST_ID, Template
from harness.tensors import Tensor, decode
from harness.types import Arm, ModelInfo


def generate(arm: Arm, model: ModelInfo, tensors: Sequence[Tensor], *, stream: bool) -> Template:
    """One request: each input under its own name, flat, as the extension has it.

    Raises UsageError for values that JSON text cannot carry.
    """
    fields: dict[str, Any] = {t.name: _value(model, t) for t in tensors}
    if more := parameters(model, arm):
        fields["parameters"] = more
    body = json.dumps(fields).encode()
    path = model_path(arm, "generate_stream" if stream else "generate")
    return Template.of(head(arm, path, len(body), {"X-Request-Id": REQUEST_ID}) + body)


def _value(model: ModelInfo, t: Tensor) -> Any:
    if t.datatype in ("FP16", "BF16"):
        raise UsageError(f"{model.name} {t.name}: the generate api carries no {t.datatype}: use kserve")
    if sum(size > 1 for size in t.shape) > 1:
        raise UsageError(f"{model.name} {t.name}: the generate api has no shape {list(t.shape)}: use kserve")
    values = decode(t.datatype, t.raw)
    if t.datatype == "BYTES":
        try:
            values = [value.decode() for value in values]
        except UnicodeDecodeError as error:
            raise UsageError(f"{model.name} {t.name}: the generate api carries text only, and this is none") from error
    return values[0] if len(values) == 1 else values
