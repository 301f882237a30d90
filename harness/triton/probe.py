"""One request that shows that a version answers, and whether it answers properly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite, prod
from typing import Any

import numpy as np

from harness.tensors import Tensor, decode, random_tensor, tensor
from harness.triton.answer import Answer
from harness.types import ModelInfo

TEXT = "The capital of France is"
TOKENS = 8

FLOATS = ("FP16", "FP32", "FP64", "BF16")


def probe_inputs(info: ModelInfo, seed: int) -> list[Tensor]:
    """Seeded noise for every required input; a token model gets a short text and asks for a few tokens."""
    rng = np.random.default_rng(seed)
    known: dict[str, list[Any]] = {}
    if info.is_token_model:
        known = {
            "text_input": [TEXT],
            "max_tokens": [TOKENS],
            "stream": [info.decoupled],
            "sampling_parameters": [json.dumps({"max_tokens": TOKENS, "temperature": 0})],
        }
    made = []
    for spec in info.inputs:
        if spec.name in known:
            made.append(tensor(spec, info.max_batch_size, known[spec.name]))
        elif not spec.optional:
            made.append(random_tensor(spec, info.max_batch_size, rng))
    return made


def fault(answer: Answer, info: ModelInfo, version: int | None) -> str:
    """What is wrong with an answer, in a few words; "" if nothing is."""
    if version is not None and answer.version != version:
        return f"version {answer.version} answered"
    expected = {spec.name: spec.datatype for spec in info.outputs}
    if not answer.outputs:
        return "no output"
    for output in answer.outputs:
        if expected.get(output.name, output.datatype) != output.datatype:
            return f"{output.name} is {output.datatype}, not {expected[output.name]}"
        values = _values(output)
        if values is None:
            return f"{output.name} has {len(output.raw)} bytes, which are no {output.datatype} of {list(output.shape)}"
        if output.datatype in FLOATS and values and not any(isfinite(value) for value in values):
            return f"{output.name} holds no finite number"
    return ""


def _values(output: Tensor) -> Sequence[Any] | None:
    try:
        values = decode(output.datatype, output.raw)
    except (ValueError, KeyError):
        return None
    return values if len(values) == prod(output.shape) else None
