"""What a model answers to one request, whatever the wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.tensors import Tensor, decode, encode


@dataclass(frozen=True, slots=True)
class Answer:
    """`version`: the one that answered, by its own word."""

    version: int
    outputs: tuple[Tensor, ...]

    def output(self, name: str) -> Tensor | None:
        return next((tensor for tensor in self.outputs if tensor.name == name), None)


def joined(answers: Sequence[Answer]) -> Answer:
    """The answers of one stream as one: texts put together, other tensors one after the other.

    A BYTES output becomes one element. The others grow in their first dimension; pieces whose other dimensions
    differ become flat.
    """
    pieces: dict[str, list[Tensor]] = {}
    for answer in answers:
        for tensor in answer.outputs:
            pieces.setdefault(tensor.name, []).append(tensor)
    return Answer(answers[-1].version, tuple(_joined(tensors) for tensors in pieces.values()))


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    if first.datatype == "BYTES":
        text = b"".join(part for tensor in tensors for part in decode("BYTES", tensor.raw))
        return Tensor(first.name, "BYTES", (1,), encode("BYTES", [text]))
    raw = b"".join(tensor.raw for tensor in tensors)
    if len({tensor.shape[1:] for tensor in tensors}) == 1 and first.shape:
        shape = (sum(tensor.shape[0] for tensor in tensors), *first.shape[1:])
    else:
        shape = (len(decode(first.datatype, raw)),)
    return Tensor(first.name, first.datatype, shape, raw)
