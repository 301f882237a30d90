"""Token models, as TensorRT-LLM's and vLLM's Triton backends name their inputs.

Greedy, with a fixed seed, unless an arm's parameters say otherwise: a comparison needs answers that can be repeated.
Sources: triton_backend/all_models of NVIDIA/TensorRT-LLM (inflight_batcher_llm/ensemble and llmapi/tensorrt_llm; older
ones in triton-inference-server/tensorrtllm_backend) and src/ of triton-inference-server/vllm_backend.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import UsageError
from harness.load.payload.rows import given, text_of, values_of
from harness.load.spec import LoadSpec
from harness.tensors import Tensor
from harness.types import Api, Arm, ModelInfo, Prompt

# What Triton itself reads from a request's parameters; everything else is the model's.
TRITON_PARAMETERS = frozenset({"priority", "timeout", "sequence_id", "sequence_start", "sequence_end"})
# How TensorRT-LLM's LLM API backend begins the names of its sampler's inputs.
_LLM_API = "sampling_param_"
# Inputs that older TensorRT-LLM ensembles require though there is nothing to say.
_BLANK = {"bad_words": [""], "stop_words": [""]}
# What asks for the log-probability of the answer itself: vLLM's backend and the LLM API, TensorRT-LLM.
_OWN_LOGPROB = ("return_cumulative_logprob", "return_log_probs")


def can_compare(model: ModelInfo, api: Api = "kserve") -> bool:
    """Whether the model gives the top-k log-probabilities of its tokens over this api."""
    outputs = {t.name for t in model.outputs}
    asked = any(t.name == "logprobs" for t in model.inputs)
    return api != "openai" and asked and {"token_ids", "topk_ids", "topk_logprobs"} <= outputs


def can_score(model: ModelInfo, api: Api = "kserve") -> bool:
    """Whether the model can be made to say given tokens, for their log-probabilities."""
    return can_compare(model, api) and any(t.name == "forced_ids" for t in model.inputs)


def max_tokens_of(spec: LoadSpec, prompt: Prompt) -> int:
    return spec.max_tokens if prompt.max_tokens is None else prompt.max_tokens


def seed_of(spec: LoadSpec) -> int:
    """The sampler's seed: it fits every integer type that such an input has."""
    return spec.seed % 2**31


def inputs(spec: LoadSpec, arm: Arm, model: ModelInfo, prompt: Prompt) -> list[Tensor]:
    """The inputs of a generation. Raises UsageError where a required one is unknown."""
    max_tokens = max_tokens_of(spec, prompt)
    stream = arm.stream and (model.decoupled or arm.api == "generate")
    known: dict[str, Any] = {
        "text_input": [text_of(spec, prompt)],
        "stream": [stream],
        "streaming": [stream],
        "exclude_input_in_output": [True],
        f"{_LLM_API}exclude_input_from_output": [True],
        "random_seed": [seed_of(spec)],
        "sampling_parameters": [_sampling(spec, arm, model, max_tokens)],
        # Tokens are counted, and the reason to stop is said, only where they are asked for.
        "return_finish_reason": [True],
        "return_num_input_tokens": [True],
        "return_num_output_tokens": [True],
    }
    names = {t.name for t in model.inputs}
    for prefix in ("", _LLM_API):
        known[f"{prefix}max_tokens"] = [max_tokens]
        known[f"{prefix}seed"] = [seed_of(spec)]
        if not arm.parameters.keys() & {f"{prefix}{name}" for name in ("temperature", "top_k", "top_p")}:
            # Greedy: by top_k where there is one, since not every sampler takes a temperature of 0.
            by_top_k = f"{prefix}top_k" in names
            known[f"{prefix}top_k" if by_top_k else f"{prefix}temperature"] = [1 if by_top_k else 0.0]
    if (spec.logprobs_k or spec.own_logprob) and can_compare(model):
        known["logprobs"] = [spec.logprobs_k or 1]
    if spec.own_logprob:
        known |= {name: [True] for name in _OWN_LOGPROB}
    return _tensors(model, arm, known)


def scoring(spec: LoadSpec, arm: Arm, model: ModelInfo, prompt: Prompt, forced_ids: Sequence[int]) -> list[Tensor]:
    """The inputs of a request that scores `forced_ids` after the prompt."""
    known = {
        "text_input": [text_of(spec, prompt)],
        "forced_ids": forced_ids,
        "logprobs": [spec.logprobs_k],
        "stream": [False],
    }
    return _tensors(model, arm, known)


def parameters(model: ModelInfo, arm: Arm) -> dict[str, Any]:
    """The arm's parameters that travel as the request's own: neither inputs nor part of sampling_parameters."""
    names = {t.name for t in model.inputs}
    if model.is_token_model and "sampling_parameters" in names:
        names |= arm.parameters.keys() - TRITON_PARAMETERS
    return {name: value for name, value in arm.parameters.items() if name not in names}


def _sampling(spec: LoadSpec, arm: Arm, model: ModelInfo, max_tokens: int) -> str:
    """vLLM's JSON. Once it is there vLLM reads no request parameters, so all that the arm says belongs in it."""
    own = arm.parameters.get("sampling_parameters", {})
    if isinstance(own, str):
        try:
            own = json.loads(own)
        except ValueError as error:
            raise UsageError(f"sampling_parameters of {model.name} is not JSON: {error}") from error
    if not isinstance(own, Mapping):
        raise UsageError(f"sampling_parameters of {model.name} is no mapping")
    names = {t.name for t in model.inputs} | TRITON_PARAMETERS
    rest = {name: value for name, value in arm.parameters.items() if name not in names}
    # vLLM adds up log-probabilities only where it is asked for some.
    more = {"logprobs": 1} if spec.own_logprob else {}
    return json.dumps({"max_tokens": max_tokens, "temperature": 0, "seed": seed_of(spec), **more, **rest, **own})


def _tensors(model: ModelInfo, arm: Arm, known: Mapping[str, Any]) -> list[Tensor]:
    made: list[Tensor] = []
    for t in model.inputs:
        values = known.get(t.name)
        if t.name in arm.parameters and t.name not in ("sampling_parameters", "text_input"):
            values = values_of(arm.parameters[t.name])
        if values is None and not t.optional:
            values = _BLANK.get(t.name)
            if values is None:
                raise UsageError(f"{model.name} needs the input {t.name}: give it in the arm's parameters")
        if values is not None:
            made.append(given(t, model, values))
    return made
