"""A trace's rows as prompts: the lengths are the trace's, the words are made up.

Tokens are counted as in `synthetic`. Rows of Mooncake's trace that begin with the same block hashes begin with the
same words, block by block: what a prefix cache could reuse when the trace was recorded, it can reuse here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from harness.scenario.synthetic import PLAIN, Vocabulary, Writer
from harness.scenario.trace import BLOCK_TOKENS, Row
from harness.types import Prompt


def prompts_of(rows: Sequence[Row], seed: int, vocabulary: Vocabulary = PLAIN) -> tuple[Prompt, ...]:
    """A prompt for each row, of its number of tokens, with its output length as max_tokens. Raises ValueError."""

    @cache
    def block(number: int) -> list[str]:
        return Writer(_seed(seed, number), vocabulary).words(BLOCK_TOKENS)

    own = Writer(seed, vocabulary)
    return tuple(
        own.prompt(row.input_tokens, row.output_tokens, [word for number in row.blocks for word in block(number)])
        for row in rows
    )


def _seed(seed: int, block: int) -> int:
    return (seed << 64) + (block & (1 << 64) - 1) + 1
