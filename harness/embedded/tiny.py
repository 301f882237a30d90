"""`tiny`: an identity model whose latency and failures can be set, also while it serves. Runs inside Triton.

build.json in the version's folder says how it starts; settings.json beside it, read anew whenever it changes,
overrides that. Several instances serve a version, each with its own random numbers and its own limit of memory.
"""

from __future__ import annotations

import json
import os
import random
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.embedded.guard import end_with_parent
from harness.embedded.tiny_settings import TinySettings, settle


class LiveSettings:
    """The settings of a version's folder, at the price of one stat() a look."""

    def __init__(self, folder: Path) -> None:
        self._build = json.loads((folder / "build.json").read_text())["build"]
        self._file = folder / "settings.json"
        self._seen = -1
        self._settings = settle(self._build)

    def now(self) -> TinySettings:
        try:
            mtime = self._file.stat().st_mtime_ns
        except FileNotFoundError:
            mtime = -1
        if mtime != self._seen:
            changes = json.loads(self._file.read_text()) if mtime != -1 else {}
            self._settings = settle(self._build, changes)
            self._seen = mtime
        return self._settings


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        end_with_parent()
        folder = Path(args["model_repository"]) / args["model_version"]
        self._live = LiveSettings(folder)
        settings = self._live.now()
        # Each instance has its own stream: the name Triton gives it ends in the instance's number.
        self._random = random.Random(f"{settings.seed} {args['model_instance_name']}")
        time.sleep(settings.load_s)
        if settings.load_fails:
            raise RuntimeError("tiny was told to fail in loading")
        self._data_bytes = data_bytes()
        self._limit_mb = 0

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        import triton_python_backend_utils as pb

        settings = self._live.now()
        if settings.crash:
            os._exit(17)
        delay_ms = settings.delay_ms
        if settings.jitter_ms > 0:
            delay_ms += self._random.expovariate(1 / settings.jitter_ms)
        self._limit(settings.limit_mb)
        heavy = settings.hold_mb and self._random.random() < settings.heavy
        held = np.ones(settings.hold_mb << 20 if heavy else 0, np.uint8)
        time.sleep(delay_ms / 1000)
        del held
        if self._random.random() < settings.fail:
            return pb.InferenceResponse(output_tensors=[], error=pb.TritonError("tiny was told to fail"))
        values = pb.get_input_tensor_by_name(request, "INPUT").as_numpy()
        if settings.offset:
            values = values + values.dtype.type(settings.offset)
        return pb.InferenceResponse(output_tensors=[pb.Tensor("OUTPUT", values)])

    def _limit(self, limit_mb: int) -> None:
        """From now on the kernel gives this process no more than so much beyond what it had once it was loaded."""
        if limit_mb != self._limit_mb:
            # The soft one binds, and can be changed again.
            wanted = self._data_bytes + (limit_mb << 20) if limit_mb else resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_DATA, (wanted, resource.getrlimit(resource.RLIMIT_DATA)[1]))
            self._limit_mb = limit_mb


def data_bytes() -> int:
    """What RLIMIT_DATA counts of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:"))
