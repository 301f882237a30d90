"""The real Triton and S3 from PyPI and the demonstration models. Light to import: the models import this too."""

from __future__ import annotations

from harness.embedded.gpu import gpu_available, gpu_name, runs_on, torch_available, torch_told
from harness.embedded.rag.builds import embedding_available
from harness.embedded.repository import (
    MODELS,
    add_version,
    build_repository,
    change_settings,
    model_available,
    reference_build,
    uses_gpu,
)
from harness.embedded.runtime import available, weights_available
from harness.embedded.s3 import EmbeddedS3, s3_available
from harness.embedded.server import EmbeddedServer

__all__ = [
    "MODELS",
    "EmbeddedS3",
    "EmbeddedServer",
    "add_version",
    "available",
    "build_repository",
    "change_settings",
    "embedding_available",
    "gpu_available",
    "gpu_name",
    "model_available",
    "reference_build",
    "runs_on",
    "s3_available",
    "torch_available",
    "torch_told",
    "uses_gpu",
    "weights_available",
]
