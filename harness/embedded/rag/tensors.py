"""Texts and numbers in and out of a Python-backend request, and the one way to answer a list of requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embedded.faults import BadRequest

Answer = Callable[[Any], Mapping[str, NDArray[Any]]]


def answered(requests: list[Any], answer: Answer) -> list[Any]:
    """A response for each request; what is wrong with one comes back as its error, and the others are served."""
    return [_answered(request, answer) for request in requests]


def texts(request: Any, name: str) -> list[str]:
    """The strings of an input. BadRequest where they are not UTF-8."""
    try:
        return [bytes(raw).decode() for raw in array(request, name)]
    except UnicodeDecodeError:
        raise BadRequest(f"{name} is not UTF-8") from None


def text(request: Any, name: str) -> str:
    """The one string of an input."""
    (only,) = texts(request, name)
    return only


def array(request: Any, name: str) -> NDArray[Any]:
    """The values of an input, in one row."""
    import triton_python_backend_utils as pb

    values: NDArray[Any] = pb.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)
    return values


def strings(*values: str) -> NDArray[np.object_]:
    """As Triton's STRING tensors want them."""
    return np.array([value.encode() for value in values], np.object_)


def _answered(request: Any, answer: Answer) -> Any:
    import triton_python_backend_utils as pb

    try:
        outputs = [pb.Tensor(name, value) for name, value in answer(request).items()]
    except BadRequest as error:
        return pb.InferenceResponse(output_tensors=[], error=pb.TritonError(str(error)))
    return pb.InferenceResponse(output_tensors=outputs)
