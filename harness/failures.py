"""What a failed request died of, from what was said of it: the table of real messages, each with its source.

Guarantee: only the words of the program count, never what it quotes of a request, so a prompt about memory is no lack
of it. A message that fits no row is "other": an unknown wording is never called out of memory.

What it cannot know: why a connection broke. `server died` is how a dead server looks to a client, and a proxy that
closes a connection looks the same; whether the server is there, only asking it tells (harness.run.recovered). A stub
that the kernel killed for memory is a stub that died: the answer says no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["out of memory", "time-out", "queue full", "stub died", "server died", "other"]

BROKEN = "connection broken"
"""The error of a Sample whose connection ended under it; `server died` is one that found nobody where somebody was."""
SUSPECT = ("out of memory", "oom", "stub died", "server died", BROKEN, "connection refused")
"""Errors of Samples after which it is asked whether the version still serves; `oom` is what imports call the first."""


@dataclass(frozen=True, slots=True)
class Sign:
    """`words`: a regular expression for what stands outside quotation marks."""

    kind: Kind
    words: str
    source: str


OOM: Kind = "out of memory"

SIGNS: tuple[Sign, ...] = (
    # PyTorch
    Sign(OOM, r"(?:CUDA|HIP|XPU|MPS backend) out of memory",
         "PyTorch c10/cuda/CUDACachingAllocator.cpp, 1.x and 2.x"),
    Sign(OOM, r"\bOutOfMemoryError\b",
         "PyTorch: torch.cuda.OutOfMemoryError (1.13), torch.OutOfMemoryError (2.5)"),
    Sign(OOM, r"CUDA error: out of memory|cudaErrorMemoryAllocation",
         "PyTorch c10/cuda/CUDAException.cpp; CUDA runtime API, cudaError_t"),
    Sign(OOM, r"CUDA_ERROR_OUT_OF_MEMORY",
         "CUDA driver API, CUresult"),
    Sign(OOM, r"DefaultCPUAllocator: (?:can't|not enough)",
         "PyTorch c10/core/impl/alloc_cpu.cpp, 1.x and 2.x"),
    Sign(OOM, r"CU(?:BLAS|DNN|SOLVER|SPARSE)_STATUS_ALLOC_FAILED|CUFFT_ALLOC_FAILED",
         "cuBLAS, cuDNN (to 8) and others: status names, as PyTorch and ONNX Runtime print them; Qwen3 issue 873"),
    Sign(OOM, r"CUDNN_STATUS_INTERNAL_ERROR_(?:DEVICE|HOST)_ALLOCATION_FAILED",
         "cuDNN 9, cudnnStatus_t"),
    # ONNX Runtime
    Sign(OOM, r"Failed to allocate memory for requested buffer of size",
         "ONNX Runtime core/framework/bfc_arena.cc, 1.15 to 1.19: onnxruntime issues 20038 and 22702"),
    Sign(OOM, r"CUDA failure 2: out of memory",
         "ONNX Runtime core/providers/cuda/cuda_call.cc"),
    # TensorRT
    Sign(OOM, r"Error Code 2: OutOfMemory|OutOfMemory Error in",
         "TensorRT 7 and 8: DeepStream-Yolo issue 366, torch2trt issue 661"),
    Sign(OOM, r"Cuda Error in \S+: 2 \(out of memory\)",
         "TensorRT 7 and 8: TensorRT issues 840 and 948, onnxruntime issue 10770"),
    Sign(OOM, r"Requested amount of (?:GPU )?memory \(\d+ bytes\) could not be allocated",
         "TensorRT 7 and 8: as the first row of it"),
    # TensorRT-LLM
    Sign(OOM, r"CUDA runtime error in [^\n]{0,200}?: out of memory",
         "TensorRT-LLM common/cudaUtils.h, 0.7 to 0.18: TensorRT-LLM issue 3636, tensorrtllm_backend issue 281"),
    Sign(OOM, r"Can't allocate new blocks",
         "TensorRT-LLM batch_manager/kvCacheManager.cpp; its docs/source/reference/memory.md calls it an OOM"),
    Sign(OOM, r"mFreePrimaryBlocks list has no GPU blocks|freeBlockIterator\.has_value\(\)",
         "TensorRT-LLM batch_manager/kvCacheManager.cpp, 0.7.1 and 0.11: TensorRT-LLM issues 1279 and 1687"),
    Sign(OOM, r"Executor creation failed due to insufficient GPU memory",
         "TensorRT-LLM _torch/pyexecutor/py_executor_creator.py, 1.0"),
    # vLLM. One that lacks KV blocks preempts, which is no failure; an input over a limit is no lack of memory.
    Sign(OOM, r"No available memory for the cache blocks",
         "vLLM worker/worker.py, v1/core/kv_cache_utils.py"),
    Sign("stub died", r"EngineCore encountered an issue|\b(?:Async|MQ)?EngineDeadError\b",
         "vLLM v1/engine/exceptions.py, engine/async_llm_engine.py, engine/multiprocessing/__init__.py"),
    Sign("stub died", r"Background loop (?:has errored already|is not running)",
         "vLLM engine/async_llm_engine.py, 0.2 to 0.6: vllm issues 5060 and 5901"),
    Sign("queue full", r"Request queue full",
         "vLLM v1/engine/exceptions.py at commit 03e79b3"),
    # the host: NumPy, Python, C++
    Sign(OOM, r"Unable to allocate [\d.]+ \w+ for an array with shape",
         "NumPy numpy/_core/_exceptions.py, 1.17 on; produced here with 1.26.4"),
    Sign(OOM, r"\b(?:_Array)?MemoryError\b",
         "Python's own exception, and NumPy's; produced here with 3.11"),
    Sign(OOM, r"\bstd::bad_alloc\b",
         "C++ standard library"),
    Sign(OOM, r"\[Errno 12\]|Cannot allocate memory",
         "Linux: ENOMEM, as Python and strerror print it"),
    # the Python backend of Triton
    Sign("stub died", r"Stub process (?:'[^']*' )?is (?:not healthy|unhealthy)",
         "python_backend python_be.cc, stub_launcher.cc, r22.05 to r26.05 (unhealthy: to r24.05); here with r24.10"),
    Sign(OOM, r"Failed to increase the shared memory pool size|Unable to initialize shared memory key[^\n]*No space",
         "python_backend shm_manager.cc, r22.05 to r26.05: server issues 5681 and 6195"),
    Sign(OOM, r"Failed to allocate memory from CUDA memory pool",
         "python_backend infer_response.cc, r24.10"),
    # Triton's core
    Sign("queue full", r"Exceeds maximum queue size",
         "core scheduler_utils.cc, r23.10 to r25.10; produced here with r24.10"),
    Sign("time-out", r"Request timeout expired",
         "core dynamic_batch_scheduler.cc, r23.10 to r25.10; produced here with r24.10"),
    Sign(OOM, r"failed to allocate (?:non-)?pinned system memory|Failed to allocate CUDA memory with byte size",
         "core pinned_memory_manager.cc, cuda_memory_manager.cc, r24.10"),
    Sign(OOM, r"failed to allocate buffer for output",
         "core ensemble_scheduler.cc, cache_entry.cc, r24.10"),
    # TensorFlow, JAX
    Sign(OOM, r"OOM when allocating tensor",
         "TensorFlow core/framework/op_kernel.cc, 2.x"),
    Sign(OOM, r"RESOURCE_EXHAUSTED: Out of memory",
         "XLA, as JAX prints it"),
    # how a server that is gone looks
    Sign("server died", r"Socket closed|Stream removed|Connection reset by peer|Broken pipe",
         "gRPC C++ and Linux (ECONNRESET, EPIPE); the second and third produced here by killing Triton r24.10"),
    Sign("server died", r"reset reason: (?:remote )?connection (?:termination|failure)",
         "Envoy source/common/http, its local reply"),
    Sign("server died", r"Remote end closed connection without response|Server disconnected",
         "Python http.client, httpx and aiohttp: what other tools record"),
)  # fmt: skip
"""The earliest in a message decides."""

_WEAK: tuple[tuple[Kind, str], ...] = (
    (OOM, r"(?i:\bout[ -]of[ -]memory\b|\br[au]n out of (?:\w+ )?memory\b|\bbad_alloc\b)|\bOOM\b"),
    (OOM, r"(?i:\bfailed to allocate (?:\S+ ){0,4}?(?:memory|bytes|[kmgt]i?b)\b)"),
    ("time-out", r"(?i:\btimed?[ -]?out\b|\btimeout\b|\bdeadline exceeded\b)|Time[Oo]ut(?:Error|Exception)?\b"),
    ("queue full", r"(?i:\bqueue (?:is )?full\b)"),
)  # fmt: skip
"""What programs that nobody knows may say; counts where no row of the table fits, and the request is not to blame."""

_SAID = ("Error(", "Exception(", *(f'"{key}":{space}' for key in ("error", "message", "detail") for space in ("", " ")))
_OPENING = re.compile("".join(f"(?<!{re.escape(before)})" for before in _SAID) + r"(?<!\w)['\"`]|[“«]")
_CLOSING = {mark: re.compile(mark + r"(?!\w)") for mark in "'\"`"} | {"“": re.compile("”"), "«": re.compile("»")}
"""Passages in quotation marks, save what an exception's repr or an error's JSON has in them; an apostrophe is none."""

# Codes that say the request is wrong: what they tell of it is not what befell the server.
_BLAMED = frozenset((
    "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "400", "401", "403", "404", "405", "411", "413", "414", "415", "422", "431",
))  # fmt: skip
_LATE = frozenset(("DEADLINE_EXCEEDED", "TIMEOUT", "408", "504"))
_GONE = frozenset(("ECONNRESET", "ECONNABORTED", "EPIPE"))
_LONGEST = 16_384
"""So much of a message is read: tracebacks grow, and what a program says of itself stands at their begin or end."""


def _compiled(rows: Iterable[tuple[Kind, str]]) -> tuple[tuple[Kind, re.Pattern[str]], ...]:
    """Each by itself: joined in one expression they cost a load worker five times as much for each failed request."""
    return tuple((kind, re.compile(words)) for kind, words in rows)


_STRONG_WORDS, _WEAK_WORDS = _compiled((sign.kind, sign.words) for sign in SIGNS), _compiled(_WEAK)


def kind_of(message: str, code: str = "") -> Kind:
    """`code`: the protocol's: a gRPC status by its name, an HTTP status, the name of an errno, or ""."""
    if code in ("DEADLINE_EXCEEDED", "TIMEOUT"):
        return "time-out"
    text = own_words(message)
    found = _first(_STRONG_WORDS, text)
    if found is None and code not in _BLAMED:
        found = _first(_WEAK_WORDS, text)
    if found is not None:
        return found
    if code in _LATE:
        return "time-out"
    return "server died" if code in _GONE else "other"


def own_words(message: str) -> str:
    """The message without what it quotes; the quotation marks stay."""
    text = message.strip()
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}\n{text[-_LONGEST // 2 :]}"
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return "".join(_unquoted(text))


def _unquoted(text: str) -> Iterator[str]:
    """A mark that nothing closes is none, and is looked for once: a message of marks takes no longer than another."""
    at, begin, unclosed = 0, 0, set[str]()
    while (opening := _OPENING.search(text, at)) is not None:
        mark, at = opening[0], opening.end()
        # Marks that are the same at both ends have something between them.
        closing = None if mark in unclosed else _CLOSING[mark].search(text, at + (mark in "'\"`"))
        if closing is None:
            unclosed.add(mark)
            continue
        yield text[begin : opening.start()]
        if mark in "'\"`":
            yield mark * 2
        begin = at = closing.end()
    yield text[begin:]


def _first(rows: tuple[tuple[Kind, re.Pattern[str]], ...], text: str) -> Kind | None:
    found = [(match.start(), kind) for kind, words in rows if (match := words.search(text))]
    return min(found, key=lambda each: each[0])[1] if found else None
