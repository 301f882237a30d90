"""Prompts of a length in tokens that the server itself counts, without its tokenizer.

Two short questions tell how many tokens a word is, and how many the template adds. What the server then says of each
prompt is what is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.scenario import Writer
from harness.tensors import decode
from harness.triton import Answer

FEW, MORE = 32, 160
"""Words of the two questions."""
MOST_OFF = 0.2
COUNTS, OUTPUTS = ("input_tokens", "num_input_tokens"), ("output_tokens", "num_output_tokens")
"""The outputs in which servers tell the length of a prompt, and of an answer."""


@dataclass(frozen=True)
class Lengths:
    """tokens = `added` + `per_word` * words. `counted`: by the server; else a word is taken for a token."""

    added: float = 0.0
    per_word: float = 1.0
    counted: bool = False

    def words(self, tokens: int) -> int:
        """How many make that many tokens; below 1 where the template alone has more."""
        return round((tokens - self.added) / self.per_word)

    def corrected(self, wanted: int, found: int) -> Lengths:
        """By a prompt that was to have `wanted` tokens and had `found`: a long one tells more of a word's length. One
        that was cut by the server tells nothing.
        """
        words = self.words(wanted)
        if not self.counted or words <= MORE or abs(found - wanted) > MOST_OFF * wanted:
            return self
        return replace(self, per_word=(found - self.added) / words)

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


def counts(answer: Answer, names: Sequence[str] = COUNTS) -> list[int]:
    """The length of each prompt (or answer) of a batch, as the server counts; [] where it does not tell."""
    for name in names:
        if (found := answer.output(name)) is not None:
            return [int(number) for number in decode(found.datatype, found.raw)]
    return []
