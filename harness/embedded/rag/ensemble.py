"""The steps of `rag_v1` and `rag_v2`, and their configurations.

An ensemble's configuration has no versions, and a step with `model_version: -1` moves to version 2 the moment that
loads: so each ensemble is a model of its own and names the version of every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.embedded.rag.builds import BUILDS as EMBEDDING_BUILDS
from harness.embedded.smollm2.signature import SIGNATURE
from harness.errors import UsageError

Build = str | Mapping[str, Any]

ENSEMBLES = {"rag_v1": 1, "rag_v2": 2}
"""Each with its number: the version of the step that it has for itself. All other steps are version 1."""

VARIED = {"embedding": "rag_embedding", "llm": "smollm2"}
"""The steps that come in builds, by the name that a scenario's `build` gives them."""

STEPS = ("rag_tokenizer", "rag_embedding", "rag_search", "rag_prompt", "smollm2")

BUILDS: dict[str, tuple[str, ...]] = {
    "rag_tokenizer": ("full", "same"),
    "rag_embedding": tuple(EMBEDDING_BUILDS),
    "rag_search": ("full", "same"),
    "rag_prompt": ("full", "same"),
    **dict.fromkeys(ENSEMBLES, tuple(EMBEDDING_BUILDS)),
}
"""The first is the reference. An ensemble's own is that of its embedding, or a mapping: {llm: fp8}."""

MODULES = {
    "rag_tokenizer": "harness.embedded.rag.tokenizer",
    "rag_embedding": "harness.embedded.rag.embedding",
    "rag_search": "harness.embedded.rag.search",
    "rag_prompt": "harness.embedded.rag.prompt",
}


def builds_of_steps(ensemble: str, build: Build) -> dict[str, tuple[int, str]]:
    """Version and build of each step of an ensemble. UsageError: no such step, or not one that comes in builds."""
    wanted = {"embedding": build} if isinstance(build, str) else dict(build)
    steps = {step: (1, "fp16" if step == "smollm2" else "full") for step in STEPS}
    for name, step_build in wanted.items():
        if name not in VARIED or not isinstance(step_build, str):
            known = ", ".join(f"{step}: ..." for step in VARIED)
            raise UsageError(f"a build of {ensemble} is that of its embedding, or of its steps ({known}), not {name!r}")
        steps[VARIED[name]] = (ENSEMBLES[ensemble], step_build)
    return steps


def with_steps(folder: Path, models: Mapping[str, Mapping[int, Build]]) -> dict[str, dict[int, Build]]:
    """`models`, and the steps of the ensembles among them that `folder` does not have."""
    every = {model: dict(versions) for model, versions in models.items()}
    for ensemble in ENSEMBLES.keys() & models.keys():
        for build in models[ensemble].values():
            for step, (version, step_build) in builds_of_steps(ensemble, build).items():
                if not (folder / step / str(version)).exists():
                    every.setdefault(step, {}).setdefault(version, step_build)
    return every


CONFIGS = {
    "rag_tokenizer": """name: "rag_tokenizer"
backend: "python"
max_batch_size: 0
@POLICY@
input [ { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] } ]
output [
  { name: "question" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "question_ids" data_type: TYPE_INT32 dims: [ -1 ] }
]
instance_group [ { count: 1 kind: KIND_CPU } ]
""",
    "rag_embedding": """name: "rag_embedding"
backend: "python"
max_batch_size: 0
@POLICY@
input [ { name: "question" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "vector" data_type: TYPE_FP32 dims: [ 384 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
""",
    "rag_search": """name: "rag_search"
backend: "python"
max_batch_size: 0
@POLICY@
input [ { name: "vector" data_type: TYPE_FP32 dims: [ 384 ] } ]
output [
  { name: "passage_ids" data_type: TYPE_INT32 dims: [ -1 ] },
  { name: "scores" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "passages" data_type: TYPE_STRING dims: [ -1 ] }
]
instance_group [ { count: 1 kind: KIND_CPU } ]
""",
    "rag_prompt": """name: "rag_prompt"
backend: "python"
max_batch_size: 0
@POLICY@
input [
  { name: "question" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "question_ids" data_type: TYPE_INT32 dims: [ -1 ] },
  { name: "passages" data_type: TYPE_STRING dims: [ -1 ] }
]
output [ { name: "prompt" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
""",
}

_INPUTS = {
    "rag_tokenizer": ("text_input",),
    "rag_embedding": ("question",),
    "rag_search": ("vector",),
    "rag_prompt": ("question", "question_ids", "passages"),
    "smollm2": ("text_input=prompt", "max_tokens", "stream", "forced_ids", "logprobs"),
}
_OUTPUTS = {
    "rag_tokenizer": ("question", "question_ids"),
    "rag_embedding": ("vector",),
    "rag_search": ("passages",),
    "rag_prompt": ("prompt",),
    "smollm2": ("text_output", "token_ids", "topk_ids", "topk_logprobs", "finish_reason", "input_tokens"),
}


def ensemble_config(name: str, build: Build) -> str:
    """config.pbtxt of an ensemble. What its last step may answer any number of times, it may: tokens are streamed."""
    steps = ",\n".join(_step(step, version) for step, (version, _) in builds_of_steps(name, build).items())
    return f"""name: "{name}"
platform: "ensemble"
max_batch_size: 0
version_policy: {{ specific: {{ versions: [1] }} }}
{SIGNATURE}ensemble_scheduling {{
  step [
{steps}
  ]
}}
"""


def _step(model: str, version: int) -> str:
    lines = [f'      model_name: "{model}" model_version: {version}']
    for kind, tensors in (("input_map", _INPUTS[model]), ("output_map", _OUTPUTS[model])):
        for tensor in tensors:
            name, _, of_ensemble = tensor.partition("=")
            lines.append(f'      {kind} {{ key: "{name}" value: "{of_ensemble or name}" }}')
    return "    {\n" + "\n".join(lines) + "\n    }"
