"""An answer as it was read, and what gathers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.load.outcome import Failure

LONGEST = 64
"""Characters of a version and of a finish reason that are kept: no honest one has more."""


@dataclass(slots=True)
class Reply:
    """An answer, complete or not. -1 is unknown.

    `first_ns`: the arrival of the first non-empty token, or of the answer of a model that gives none. `chunks_ns`:
    the arrivals of what a stream brought, where it was not empty. `isl`, `osl`: tokens in and out as the engine counted
    them; `counted`: it did not, and `osl` is the Reader's own count. `cached_tokens`: prompt tokens that the engine had
    in a cache, as it says. `text`, `token_ids`, `topk_*` (`k` a token, row by row) and `digest` (SHA-256 of an answer
    that is not tokens) are there where the Reader was told to. `more`: tokens came that are not in `text`.
    `logprob`: the sum of the log-probabilities of the engine's own tokens, None where it does not say, over
    `logprob_tokens` tokens. `tool_calls`, `shape`, `bad`, `vector`: as in an Output.
    """

    failure: Failure | None = None
    first_ns: int = -1
    version: str = ""
    isl: int = -1
    osl: int = -1
    finish_reason: str = ""
    text: str = ""
    digest: str = ""
    token_ids: list[int] = field(default_factory=list)
    k: int = 0
    topk_ids: list[int] = field(default_factory=list)
    topk_logprobs: list[float] = field(default_factory=list)
    chunks_ns: list[int] = field(default_factory=list)
    cached_tokens: int = -1
    counted: bool = False
    more: bool = False
    logprob: float | None = None
    logprob_tokens: int = -1
    tool_calls: str = ""
    shape: str = ""
    bad: int = 0
    vector: Any = ()
