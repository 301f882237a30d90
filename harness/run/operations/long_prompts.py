"""Prompts of a length in tokens that the server itself counts, without its tokenizer.

Two short questions tell how many tokens a word is, and how many the template adds. What the server then says of each
prompt is what is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.scenario import Writer
from harness.tensors import decode
from harness.triton import Answer

FEW, MORE = 32, 160
"""Words of the two questions."""
COUNTS = ("input_tokens", "num_input_tokens")
"""The outputs in which servers tell the length of a prompt."""


@dataclass(frozen=True)
class Lengths:
    """tokens = `added` + `per_word` * words. `counted`: by the server; else a word is taken for a token."""

    added: float = 0.0
    per_word: float = 1.0
    counted: bool = False

    def words(self, tokens: int) -> int:
        """How many make that many tokens; below 1 where the template alone has more."""
        return round((tokens - self.added) / self.per_word)

    def texts(self, writer: Writer, tokens: int, count: int) -> list[str]:
        """`count` different texts of that length."""
        return [writer.prompt(self.words(tokens), None).text for _ in range(count)]


def measured(ask: Callable[[Sequence[str]], Answer], writer: Writer) -> Lengths:
    """By two questions of one text each."""
    few, more = (counts(ask([writer.prompt(words, None).text])) for words in (FEW, MORE))
    if not few or not more or more[0] <= few[0]:
        return Lengths()
    per_word = (more[0] - few[0]) / (MORE - FEW)
    return Lengths(few[0] - per_word * FEW, per_word, counted=True)


def counts(answer: Answer) -> list[int]:
    """The length of each prompt of a batch, as the server counts; [] where it does not tell."""
    for name in COUNTS:
        if (found := answer.output(name)) is not None:
            return [int(number) for number in decode(found.datatype, found.raw)]
    return []
