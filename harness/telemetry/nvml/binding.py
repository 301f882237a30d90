"""pynvml, and what its errors mean to one who reads."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from harness.telemetry.source import SourceUnavailable

# Return codes of nvml.h; what was once numbered there keeps its number.
UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 1, 2, 3, 4, 6
DRIVER_NOT_LOADED, TIMEOUT, FUNCTION_NOT_FOUND, GPU_IS_LOST, RESET_REQUIRED = 9, 10, 13, 15, 16
VGPU_ECC_NOT_SUPPORTED, ARGUMENT_VERSION_MISMATCH, DEPRECATED, GPU_NOT_FOUND = 22, 25, 26, 28

LACKING = frozenset(
    {
        INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, VGPU_ECC_NOT_SUPPORTED,
        ARGUMENT_VERSION_MISMATCH, DEPRECATED,
    }
)  # fmt: skip
"""This card or driver does not have it, and will not have it at the next poll."""
LOST = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED, GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND})
"""The whole card does not answer any more. Every other error is of one moment."""


def library() -> Any:
    """pynvml, not opened. Raises SourceUnavailable where it is not installed."""
    try:
        return import_module("pynvml")
    except ImportError as error:
        raise SourceUnavailable("NVML: pynvml is not installed (the extra `gpu`)") from error


def call(nvml: Any, name: str, *arguments: Any) -> Any:
    """A function that an older pynvml lacks is one that the driver lacks: NVMLError of FUNCTION_NOT_FOUND."""
    function = getattr(nvml, name, None)
    if function is None:
        raise nvml.NVMLError(FUNCTION_NOT_FOUND)
    return function(*arguments)
