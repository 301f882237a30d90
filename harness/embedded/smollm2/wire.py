"""What a language model is asked through Triton, and what it answers: the tensors of `smollm2` and `llama`, and of
those that answer whole batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embedded.faults import BadRequest

MAX_TOKENS = 16
MAX_TOP_K = 1000


@dataclass(frozen=True, slots=True)
class Step:
    """One or more tokens. Row i of `topk_*` (tokens, k) is the distribution before token i was chosen, sorted
    from the most likely; natural logarithms. `finish_reason` is empty until the last step.
    """

    text: str
    token_ids: NDArray[np.int32]
    topk_ids: NDArray[np.int32]
    topk_logprobs: NDArray[np.float32]
    finish_reason: str
    input_tokens: int


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer of a batch, which was waited for."""

    text: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `forced`: tokens whose probabilities are wanted in place of an answer."""

    text: str
    max_tokens: int
    k: int
    forced: list[int] | None
    stream: bool


def asked(request: Any) -> Asked:
    """What is in the request's tensors. BadRequest."""
    forced = _values(request, "forced_ids")
    return Asked(
        _text(request),
        int(_scalar(request, "max_tokens", MAX_TOKENS)),
        int(_scalar(request, "logprobs", 0)),
        None if forced is None else [int(i) for i in forced],
        bool(_scalar(request, "stream", True)),
    )


def joined(steps: Sequence[Step]) -> Step:
    """A whole answer in one."""
    return Step(
        "".join(step.text for step in steps),
        np.concatenate([step.token_ids for step in steps]),
        np.concatenate([step.topk_ids for step in steps]),
        np.concatenate([step.topk_logprobs for step in steps]),
        steps[-1].finish_reason,
        steps[-1].input_tokens,
    )


def response(step: Step) -> Any:
    """Its tensors, as Triton takes them."""
    import triton_python_backend_utils as pb

    tensors = {
        "text_output": np.array([step.text.encode()], np.object_),
        "token_ids": step.token_ids,
        "topk_ids": step.topk_ids,
        "topk_logprobs": step.topk_logprobs,
        "finish_reason": np.array([step.finish_reason.encode()], np.object_),
        "input_tokens": np.array([step.input_tokens], np.int32),
    }
    # Triton has no tensors without elements: nothing asked for, nothing sent
    return pb.InferenceResponse([pb.Tensor(name, value) for name, value in tensors.items() if value.size])


def end(sender: Any, problem: str) -> None:
    """The last word to a request: an error where there is a problem, else nothing more."""
    import triton_python_backend_utils as pb

    final = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    if problem:
        sender.send(pb.InferenceResponse(output_tensors=[], error=pb.TritonError(problem)), flags=final)
    else:
        sender.send(flags=final)


def asked_batch(request: Any) -> tuple[list[str], int]:
    """Its rows' texts, and how many tokens each answer may have: they share one limit. BadRequest."""
    import triton_python_backend_utils as pb

    try:
        texts = [
            bytes(row).decode() for row in pb.get_input_tensor_by_name(request, "text_input").as_numpy().reshape(-1)
        ]
    except UnicodeDecodeError:
        raise BadRequest("text_input is not UTF-8") from None
    limits = _values(request, "max_tokens")
    return texts, MAX_TOKENS if limits is None else int(limits.max())


def answer_batches(requests: Sequence[Any], answer: Callable[[list[str], list[int]], list[Whole]]) -> list[Any]:
    """A response for each request of a batch, all of whose rows `answer` is given at once: texts and limits.

    A batch for which there is no memory, or with a row that cannot be, fails as a whole, in the words of the error.
    """
    import triton_python_backend_utils as pb

    try:
        texts, limits, rows = [], [], []
        for request in requests:
            mine, limit = asked_batch(request)
            texts += mine
            limits += [limit] * len(mine)
            rows.append(len(mine))
        every = iter(answer(texts, limits))
    except BadRequest as error:
        said = str(error)
    except (MemoryError, RuntimeError) as error:  # PyTorch's OutOfMemoryError is a RuntimeError
        said = f"{type(error).__name__.lstrip('_')}: {error}"
    else:
        return [pb.InferenceResponse(_columns([next(every) for _ in range(count)])) for count in rows]
    return [pb.InferenceResponse([], error=pb.TritonError(said)) for _ in requests]


def _columns(answers: Sequence[Whole]) -> list[Any]:
    import triton_python_backend_utils as pb

    columns = {
        "text_output": np.array([[answer.text.encode()] for answer in answers], np.object_),
        "input_tokens": np.array([[answer.input_tokens] for answer in answers], np.int32),
        "output_tokens": np.array([[answer.output_tokens] for answer in answers], np.int32),
    }
    return [pb.Tensor(name, values) for name, values in columns.items()]


def checked_top_k(k: int) -> int:
    """BadRequest: not from 0 to MAX_TOP_K."""
    if not 0 <= k <= MAX_TOP_K:
        raise BadRequest(f"logprobs must be from 0 to {MAX_TOP_K}, not {k}")
    return k


def checked_forced(forced: Sequence[int], vocabulary: int) -> None:
    """BadRequest: none, or one that is no token."""
    if not len(forced):
        raise BadRequest("forced_ids is empty")
    wrong = [i for i in forced if not 0 <= i < vocabulary]
    if wrong:
        raise BadRequest(f"forced_ids holds {wrong[0]}: ids are from 0 to {vocabulary - 1}")


def checked_lengths(prompt: int, more: int, context: int) -> None:
    """BadRequest: `more` tokens are none, or prompt and they do not fit into the context."""
    if more < 1:
        raise BadRequest(f"max_tokens must be at least 1, not {more}")
    if prompt + more > context:
        raise BadRequest(f"{prompt} prompt tokens and {more} more exceed the context of {context} tokens")


def _values(request: Any, name: str) -> Any:
    import triton_python_backend_utils as pb

    tensor = pb.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)


def _scalar(request: Any, name: str, default: int | bool) -> Any:
    values = _values(request, name)
    if values is None:
        return default
    if len(values) != 1:
        raise BadRequest(f"{name} must hold one value, not {len(values)}")
    return values[0]


def _text(request: Any) -> str:
    raw = _scalar(request, "text_input", False)
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:
        raise BadRequest("text_input is not UTF-8") from None
