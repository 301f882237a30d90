"""A trace's rows as prompts: the lengths are the trace's, the words are made up.

A word is taken for a token, as in `synthetic`. Rows of Mooncake's trace that begin with the same block hashes begin
with the same words, block by block: what a prefix cache could reuse when the trace was recorded, it can reuse here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from harness.scenario.synthetic import texts_of
from harness.scenario.trace import BLOCK_TOKENS, Row
from harness.types import Prompt

MOST_TOKENS = 50_000_000
"""Of all rows together (Azure's conversation trace has 22 million): some six bytes each, in every worker and for each
arm once more.
"""


def too_long(rows: Sequence[Row]) -> str | None:
    """What is wrong with so much text, if it is too much; else None."""
    total = sum(row.input_tokens for row in rows)
    if total <= MOST_TOKENS:
        return None
    return (
        f"{len(rows)} rows ask for {total} tokens of text, at most {MOST_TOKENS} are prepared; "
        "replay less of it (for), or a part of the file"
    )


def prompts_of(rows: Sequence[Row], seed: int) -> tuple[Prompt, ...]:
    """A prompt for each row, of its number of words, with its output length as max_tokens."""

    @cache
    def block(number: int) -> str:
        return texts_of((BLOCK_TOKENS,), _seed(seed, number))[0]

    own = texts_of([max(row.input_tokens - len(row.blocks) * BLOCK_TOKENS, 0) for row in rows], seed)
    prompts = []
    for row, rest in zip(rows, own, strict=True):
        words = " ".join((*map(block, row.blocks), rest)).split()[: row.input_tokens]
        prompts.append(Prompt(" ".join(words), max(row.output_tokens, 1)))
    return tuple(prompts)


def _seed(seed: int, block: int) -> int:
    return (seed << 64) + (block & (1 << 64) - 1) + 1
