"""What both kinds of kernels share: how they are compiled, and what they ask of the tensors that they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

E4M3_MOST = tl.constexpr(448.0)


def jit(function: Callable[..., Any]) -> Any:
    """Compiled anew for other types and widths, but not for other numbers of splits or where a slice of rows begins."""
    return triton.jit(
        function, do_not_specialize=["splits"], do_not_specialize_on_alignment=["slots", "positions", "lengths"]
    )


def check_rows(*tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.stride(-1) != 1:
            raise ValueError(f"rows must lie in one piece, not in strides of {tensor.stride(-1)}")
