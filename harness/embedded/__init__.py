"""The real Triton from PyPI and its demonstration models. Light to import: the models import this too."""

from __future__ import annotations

from harness.embedded.repository import MODELS, add_version, build_repository, change_settings
from harness.embedded.runtime import available, weights_available
from harness.embedded.server import EmbeddedServer

__all__ = [
    "MODELS",
    "EmbeddedServer",
    "add_version",
    "available",
    "build_repository",
    "change_settings",
    "weights_available",
]
