"""The store of a demonstration: an S3 server of the run's own, and a build published to it as CI would."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.embedded import EmbeddedS3, build_repository
from harness.store import Store, open_store, publish

BUCKET = "s3://models"


def start_store(folder: Path, stack: ExitStack) -> Store:
    """An empty bucket on an S3 server of its own; it ends with `stack`, and this process knows its keys until then."""
    s3 = EmbeddedS3(folder / "s3", folder / "s3.log")
    stack.callback(s3.stop)
    s3.start()
    before = {key: os.environ.get(key) for key in s3.environment}
    stack.callback(_restore, before)
    os.environ.update(s3.environment)
    return open_store(BUCKET)


def build_and_publish(store: Store, model: str, version: int, build: Any, *, like: str = "") -> None:
    """Build one version of a demonstration model and publish it, under the name `model`.

    `like`: which demonstration model it is, where that has another name.
    """
    like = like or model
    with tempfile.TemporaryDirectory(prefix="triton-canary-build-") as name:
        built = Path(name)
        build_repository(built, {like: {version: build}})
        config = built / "config.pbtxt"
        text = (built / like / "config.pbtxt").read_text()
        config.write_text(text.replace(f'name: "{like}"', f'name: "{model}"', 1))
        publish(store, built / like / str(version), model, version, config=config)


def _restore(before: Mapping[str, str | None]) -> None:
    for key, value in before.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value
