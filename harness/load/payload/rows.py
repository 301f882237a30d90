"""Inputs of any KServe v2 model from its metadata: given rows where there are some, seeded noise where there are none.

A free dimension takes its size from `load.shapes`, from a given row's own shape or number of values, or is 1.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.errors import UsageError
from harness.load.spec import LoadSpec
from harness.tensors import Tensor, encode, random_values
from harness.types import Arm, ModelInfo, TensorSpec

_UNFIT = (ValueError, TypeError, OverflowError)


def inputs(spec: LoadSpec, arm: Arm, model: ModelInfo, number: int) -> list[Tensor]:
    """Every required input, and the optional ones that a row or the arm's parameters give a value.

    A model of nothing but optional inputs gets noise in all of them. Raises UsageError naming the input, and
    `load.shapes` where that would help.
    """
    row: Mapping[str, Any] = spec.inputs[number % len(spec.inputs)] if spec.inputs else {}
    _known(spec, row, "load.inputs")
    _known(spec, spec.shapes, "load.shapes")
    needed = [t for t in model.inputs if not t.optional] or model.inputs
    rng = np.random.default_rng([spec.seed & (2**63 - 1), number])
    made: list[Tensor] = []
    for t in model.inputs:
        wanted = spec.shapes.get(t.name)
        if t.name in arm.parameters:
            made.append(given(t, model, values_of(arm.parameters[t.name]), wanted))
        elif t.name in row:
            made.append(given(t, model, row[t.name], wanted))
        elif t in needed and row:
            raise UsageError(f"load.inputs: row {number % len(spec.inputs) + 1} gives {model.name} no {t.name}")
        elif t in needed:
            made.append(_noise(t, model, wanted, rng))
    return made


def values_of(parameter: Any) -> Any:
    """A parameter of an arm as an input's values: a single one stands for itself."""
    return parameter if isinstance(parameter, list | tuple | Mapping) else [parameter]


def given(
    t: TensorSpec, model: ModelInfo, values: Sequence[Any] | Mapping[str, Any], wanted: Sequence[int] | None = None
) -> Tensor:
    """A tensor of flat `values`, or of perf_analyzer's {"content": [...], "shape": [...]} or {"b64": "..."}."""
    shape: tuple[int, ...] | None = None
    if isinstance(values, Mapping):
        shape = _shape(t, model, values["shape"], "its row") if "shape" in values else None
        values = _b64(t, model, values["b64"]) if "b64" in values else values["content"]
    if isinstance(values, bytes):
        raw, count = values, _count(t, values)
    else:
        raw, count = _raw(t, model, values), len(values)
    if shape is None:
        shape = _shape(t, model, wanted, "load.shapes") if wanted is not None else _guess(t, model, count)
    if math.prod(shape) != count:
        raise UsageError(f"{model.name} {t.name}: {count} values do not fill its shape {list(shape)}: set load.shapes")
    return Tensor(t.name, t.datatype, (1, *shape) if model.max_batch_size > 0 else shape, raw)


def _noise(t: TensorSpec, model: ModelInfo, wanted: Sequence[int] | None, rng: np.random.Generator) -> Tensor:
    free = tuple(1 if size < 0 else size for size in t.shape)
    shape = free if wanted is None else _shape(t, model, wanted, "load.shapes")
    raw = encode(t.datatype, random_values(t.datatype, math.prod(shape), rng))
    return Tensor(t.name, t.datatype, (1, *shape) if model.max_batch_size > 0 else shape, raw)


def _shape(t: TensorSpec, model: ModelInfo, wanted: Sequence[int], source: str) -> tuple[int, ...]:
    """`wanted` is the whole shape without the batch, or the free dimensions' sizes in their order."""
    sizes = iter(wanted)
    free = sum(size < 0 for size in t.shape)
    if len(wanted) == len(t.shape):
        shape = tuple(wanted)
    elif len(wanted) == free:
        shape = tuple(next(sizes) if size < 0 else size for size in t.shape)
    else:
        shape = ()
    fits = len(shape) == len(t.shape) and all(
        size >= 0 and own in (-1, size) for own, size in zip(t.shape, shape, strict=True)
    )
    if not fits:
        raise UsageError(f"{source}: {list(wanted)} does not fit {model.name} {t.name}, whose shape is {list(t.shape)}")
    return shape


def _guess(t: TensorSpec, model: ModelInfo, count: int) -> tuple[int, ...]:
    """The one free dimension takes what the others leave; two or more cannot be told apart."""
    free = [at for at, size in enumerate(t.shape) if size < 0]
    fixed = math.prod(size for size in t.shape if size >= 0)
    if len(free) == 1 and fixed and count % fixed == 0:
        return tuple(count // fixed if size < 0 else size for size in t.shape)
    if len(free) > 1 and count != fixed:
        raise UsageError(f"{model.name} {t.name}: {count} values leave its free dimensions open: set load.shapes")
    return tuple(1 if size < 0 else size for size in t.shape)


def _raw(t: TensorSpec, model: ModelInfo, values: Sequence[Any]) -> bytes:
    try:
        if t.datatype == "BYTES":
            values = [value if isinstance(value, str | bytes) else str(value) for value in values]
        return encode(t.datatype, values)
    except _UNFIT as error:
        raise UsageError(f"{model.name} {t.name}: values do not fit {t.datatype} ({error})") from error


def _b64(t: TensorSpec, model: ModelInfo, text: str) -> bytes | list[bytes]:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise UsageError(f"{model.name} {t.name}: what b64 holds is not base64 ({error})") from error
    return [raw] if t.datatype == "BYTES" else raw


def _count(t: TensorSpec, raw: bytes) -> int:
    size = len(encode(t.datatype, [0]))
    if len(raw) % size:
        raise UsageError(f"{t.name}: {len(raw)} bytes are no whole number of {t.datatype} values")
    return len(raw) // size


def _known(spec: LoadSpec, names: Mapping[str, Any], source: str) -> None:
    """The arms' models may differ: a name has to be an input of one of them."""
    inputs = dict.fromkeys(t.name for model in spec.models.values() for t in model.inputs)
    for name in names:
        if name not in inputs:
            models = " and ".join(dict.fromkeys(model.name for model in spec.models.values()))
            raise UsageError(f"{source}: {models} has no input {name!r}; known are {', '.join(inputs)}")
