"""Inputs of any KServe v2 model from its metadata: given rows where there are some, a prompt as a row of a model that
reads one text, seeded noise where there are neither.

A free dimension takes its size from `load.shapes`, from a given row's own shape or number of values, or is 1. So does
the batch of a model that takes batches, where `load.shapes` has it in front of an input's whole shape.
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
from harness.load.template import UNIQUE
from harness.tensors import Tensor, encode, random_values, shape_of
from harness.types import Arm, ModelInfo, Prompt, TensorSpec

_UNFIT = (ValueError, TypeError, OverflowError)


def inputs(spec: LoadSpec, arm: Arm, model: ModelInfo, number: int) -> list[Tensor]:
    """Every required input, and the optional ones that a row or the arm's parameters give a value.

    A model of nothing but optional inputs gets noise in all of them. Raises UsageError naming the input, and
    `load.shapes` where that would help.
    """
    row: Mapping[str, Any] = spec.inputs[number % len(spec.inputs)] if spec.inputs else {}
    if spec.prompts and not row:
        row = {_text_input(model): [text_of(spec, spec.prompts[number])]}
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
        elif t in needed and spec.prompts:
            raise UsageError(f"{model.name} needs the input {t.name}: give it in the arm's parameters")
        elif t in needed and row:
            raise UsageError(f"load.inputs: row {number % len(spec.inputs) + 1} gives {model.name} no {t.name}")
        elif t in needed:
            made.append(_noise(t, model, wanted, rng))
    if model.max_batch_size > 0 and len({t.shape[0] for t in made}) > 1:
        batches = ", ".join(f"{t.name} {t.shape[0]}" for t in made)
        raise UsageError(f"{model.name}: one batch for all inputs, not {batches}: set load.shapes of each")
    return made


def text_of(spec: LoadSpec, prompt: Prompt) -> str:
    """The prompt's text, behind a key of its own where no prefix of it may come from a cache."""
    return f"{UNIQUE} {prompt.text}" if spec.cache == "unique" else prompt.text


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
    return Tensor(t.name, t.datatype, shape, raw)


def _noise(t: TensorSpec, model: ModelInfo, wanted: Sequence[int] | None, rng: np.random.Generator) -> Tensor:
    shape = shape_of(t, model.max_batch_size) if wanted is None else _shape(t, model, wanted, "load.shapes")
    return Tensor(t.name, t.datatype, shape, encode(t.datatype, random_values(t.datatype, math.prod(shape), rng)))


def _text_input(model: ModelInfo) -> str:
    texts = [t for t in model.inputs if t.datatype == "BYTES"]
    texts = [t for t in texts if not t.optional] or texts
    if len(texts) != 1:
        raise UsageError(f"{model.name}: prompts are for a model with one text input; it has {len(texts)}")
    return texts[0].name


def _shape(t: TensorSpec, model: ModelInfo, wanted: Sequence[int], source: str) -> tuple[int, ...]:
    """`wanted` is the whole shape, with or without a batch in front, or the free dimensions' sizes in their order."""
    most = model.max_batch_size
    batch: tuple[int, ...] = (1,) if most > 0 else ()
    given, sizes = wanted, iter(wanted)
    if most > 0 and len(wanted) == len(t.shape) + 1:
        batch, wanted = (wanted[0],), wanted[1:]
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
    if not fits or any(not 1 <= size <= most for size in batch):
        batches = f" in batches of {most} at most" if most > 0 else ""
        whose = f"{model.name} {t.name}, whose shape is {list(t.shape)}{batches}"
        raise UsageError(f"{source}: {list(given)} does not fit {whose}")
    return (*batch, *shape)


def _guess(t: TensorSpec, model: ModelInfo, count: int) -> tuple[int, ...]:
    """The one free dimension takes what the others leave; two or more cannot be told apart."""
    batch = (1,) if model.max_batch_size > 0 else ()
    free = [at for at, size in enumerate(t.shape) if size < 0]
    fixed = math.prod(size for size in t.shape if size >= 0)
    if len(free) == 1 and fixed and count % fixed == 0:
        return (*batch, *(count // fixed if size < 0 else size for size in t.shape))
    if len(free) > 1 and count != fixed:
        raise UsageError(f"{model.name} {t.name}: {count} values leave its free dimensions open: set load.shapes")
    return shape_of(t, model.max_batch_size)


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
