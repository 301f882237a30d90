"""Model repositories of the demonstration models: MODEL/config.pbtxt and MODEL/V/{model.py, build.json}."""

from __future__ import annotations

import contextlib
import json
import os
import py_compile
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.embedded import gpu, tiny_settings
from harness.embedded.configs import config_text
from harness.embedded.llama import settings as llama
from harness.embedded.rag import ensemble
from harness.embedded.rag.builds import embedding_available
from harness.embedded.runtime import weights_available
from harness.embedded.smollm2 import settings as batched
from harness.errors import UsageError

Build = str | Mapping[str, Any]

SMOLLM2_BUILDS = ("fp16", "same", "fp8", "fp8-shifted", "slow", "erring")
BATCHING_BUILDS = ("fp16", "same")
MODELS: dict[str, tuple[str, ...]] = {
    "smollm2": SMOLLM2_BUILDS,
    "smollm2_batched": tuple(batched.BUILDS),
    "llama": tuple(llama.BUILDS),
    "llama_batched": tuple(llama.BUILDS),
    "tiny": tuple(tiny_settings.BUILDS),
    "batching": BATCHING_BUILDS,
    "batching_night": BATCHING_BUILDS,
    **ensemble.BUILDS,
}

LANGUAGE_MODELS = ("smollm2", "smollm2_batched", "rag_tokenizer", *ensemble.ENSEMBLES)

LLAMA_MODELS = ("llama", "llama_batched")
"""In PyTorch, with a GPU or without one."""

LARGE_SHAPES = ("7b", "8b")
"""Shapes of `llama` that no CPU serves at a speed that is of any use."""

_SHIMS = {
    "smollm2": "from harness.embedded.smollm2.model import TritonPythonModel\n",
    "smollm2_batched": "from harness.embedded.smollm2.batched import TritonPythonModel\n",
    "llama": "from harness.embedded.llama.model import TritonPythonModel\n",
    "llama_batched": "from harness.embedded.llama.batched import TritonPythonModel\n",
    "tiny": "from harness.embedded.tiny import TritonPythonModel\n",
    "batching": "from harness.embedded.batching import TritonPythonModel\n",
    "batching_night": "from harness.embedded.batching import TritonPythonModel\n",
    **{model: f"from {module} import TritonPythonModel\n" for model, module in ensemble.MODULES.items()},
}
# On a GPU. Those that are not here run on the CPU everywhere.
_GPU_SHIMS = {
    "smollm2": "from harness.embedded.llama.model import SmolLM2 as TritonPythonModel\n",
    "llama": _SHIMS["llama"],
    "llama_batched": _SHIMS["llama_batched"],
    "rag_embedding": "from harness.embedded.rag.embedding_gpu import TritonPythonModel\n",
}
_SHIM = """# The model is in the package harness.embedded; build.json beside this file says which build.
{line}
__all__ = ["TritonPythonModel"]
"""


def build_repository(folder: Path, models: Mapping[str, Mapping[int, Build]]) -> None:
    """Writes a model repository into `folder` (made if missing), e.g. ``{"smollm2": {1: "fp16", 2: "fp8"}}``.

    The version_policy of each config.pbtxt is `specific` with the versions given here. An ensemble (`rag_v1`, `rag_v2`)
    brings its steps, as far as `folder` does not have them. UsageError: unknown model or build, a version below 1, or
    a version that is there already.
    """
    models = ensemble.with_steps(folder, models)
    for model, versions in models.items():
        for version, build in versions.items():
            _check(model, version, build)
            if (folder / model / str(version)).exists():
                raise UsageError(f"{model} version {version} is in {folder} already")
    for model, versions in models.items():
        (folder / model).mkdir(parents=True, exist_ok=True)
        for version, build in versions.items():
            add_version(folder, model, version, build)
        _write(folder / model / "config.pbtxt", _config(folder, model, versions, models))


def reference_build(model: str) -> str:
    """The build that the others of `model` are compared with. UsageError: no such model."""
    if model not in MODELS:
        raise UsageError(f"unknown model {model!r}: known are {', '.join(MODELS)}")
    return MODELS[model][0]


def model_available(model: str) -> str | None:
    """None where `model` has what it needs beside the server; otherwise one line that says what to install."""
    language = weights_available() if model in LANGUAGE_MODELS else None
    embedding = embedding_available() if model in ("rag_embedding", "rag_search", *ensemble.ENSEMBLES) else None
    torch = gpu.torch_available() if model in LLAMA_MODELS else None
    return language or embedding or torch


def on_gpu(model: str) -> bool:
    """Whether `model` is written for a GPU here: it can use one, and there is one."""
    return model in _GPU_SHIMS and gpu.gpu_available() is None


def uses_gpu(model: str) -> bool:
    """Whether `model`, or a step of it, would run on a GPU where there is one."""
    return model in _GPU_SHIMS or model in ensemble.ENSEMBLES


def add_version(repository: Path, model: str, version: int, build: Build) -> None:
    """Adds one version's folder, staged and renamed: it is there as a whole or not at all.

    config.pbtxt stays as it is: loading decides which versions serve. UsageError: as in `build_repository`.
    """
    _check(model, version, build)
    target = repository / model / str(version)
    if not (repository / model).is_dir():
        raise UsageError(f"{repository} holds no model {model}")
    if target.exists():
        raise UsageError(f"{model} version {version} is in {repository} already")
    staged = Path(tempfile.mkdtemp(prefix=f".staging-{model}-{version}-", dir=repository))
    try:
        staged.chmod(0o755)
        if model in _SHIMS:
            shim = _GPU_SHIMS[model] if on_gpu(model) else _SHIMS[model]
            _write(staged / "model.py", _SHIM.format(line=shim))
        if model == "rag_search":
            from harness.embedded.rag.index import put_index  # with numpy, which no other repository needs

            put_index(staged)
        _write(
            staged / "build.json",
            json.dumps({"build": build if isinstance(build, str) else dict(build)}) + "\n",
        )
        compile_models(staged, target)
        staged.rename(target)
    except BaseException as error:  # an index takes seconds to make: Ctrl-C may come, too
        shutil.rmtree(staged, ignore_errors=True)
        if isinstance(error, OSError) and target.exists():
            raise UsageError(f"{model} version {version} is in {repository} already") from error
        raise


def change_settings(repository: Path, version: int, model: str = "tiny", **settings: Any) -> None:
    """Changes a `tiny` version while it serves: its next request reads `settings` (see tiny_settings.py).

    What is not named falls back to the build's own.
    """
    tiny_settings.settle(settings)
    folder = repository / model / str(version)
    if not folder.is_dir():
        raise UsageError(f"{model} version {version} is not in {repository}")
    _write(folder / "settings.json", json.dumps(settings) + "\n")


def compile_models(version: Path, named: Path | None = None) -> None:
    """Writes the bytecode of a version's Python files, as if the folder were `named`; what cannot be is left.

    Otherwise the Python backend's stub writes it (it ignores PYTHONDONTWRITEBYTECODE) after Triton has noted
    the folder's time, and Triton re-initialises the version at the model's next load, because it "changed".
    """
    for file in version.glob("*.py"):
        with contextlib.suppress(OSError):
            py_compile.compile(str(file), dfile=str((named or version) / file.name), quiet=2)


def _config(folder: Path, model: str, versions: Mapping[int, Build], models: Mapping[str, Any]) -> str:
    if model in ensemble.ENSEMBLES:
        return ensemble.ensemble_config(model, versions[1])
    if model not in ensemble.STEPS or not ensemble.ENSEMBLES.keys() & models.keys():
        return config_text(model, sorted(versions), on_gpu(model))
    # An ensemble that joins another adds a version to its steps; both share the others, and the language model
    # takes two at a time: the two requests of a pair do not wait for each other. On a GPU one instance takes many.
    text = config_text(model, sorted(int(found.name) for found in (folder / model).glob("[1-9]*")), on_gpu(model))
    return text.replace("count: 1 kind: KIND_CPU", "count: 2 kind: KIND_CPU") if model == "smollm2" else text


def _check(model: str, version: int, build: Build) -> None:
    reference_build(model)
    if version < 1:
        raise UsageError(f"a model version is a whole number from 1, not {version}")
    if model in ensemble.ENSEMBLES and version > 1:
        raise UsageError(
            f"{model} has one configuration for all versions, so it has only version 1: compare two ensembles"
        )
    if isinstance(build, str):
        if build not in MODELS[model]:
            raise UsageError(f"unknown build {build!r} of {model}: known are {', '.join(MODELS[model])}")
    elif model == "tiny":
        tiny_settings.settle(build)
    elif model == "smollm2_batched":
        batched.settle_batched(build)
    elif model in LLAMA_MODELS:
        _check_llama(model, llama.settle_llama(build))
    elif model in ensemble.ENSEMBLES:
        ensemble.builds_of_steps(model, build)
    else:
        raise UsageError(f"a build of {model} is one of {', '.join(MODELS[model])}, not a mapping")


def _check_llama(model: str, settings: llama.LlamaSettings) -> None:
    if settings.shape == llama.SMOLLM2 and (problem := weights_available()):
        raise UsageError(problem)
    if settings.shape in LARGE_SHAPES and (problem := gpu.gpu_available()):
        smaller = ", ".join(shape for shape in llama.CHOICES["shape"] if shape not in LARGE_SHAPES)
        raise UsageError(f"{model} of shape {settings.shape} needs a GPU, on a CPU take {smaller}: {problem}")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
