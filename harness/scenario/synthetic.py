"""Prompts made up from a seed, of wanted lengths in tokens: real words in random order.

Whose tokens they are is said by `counted_by`: those of a tokenizer.json, or, without one, a word is taken for a token.
The words here are so common that tokenizers of English text mostly have them whole. What a server puts around a prompt
(a chat template, a system message) comes on top of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.scenario.lengths import Lengths
from harness.scenario.word_list import WORDS
from harness.tokens import Count
from harness.types import Prompt

_STREAM = 3
"""Beside the plan's own (plan/draws.py), so that words and arrivals of one seed have nothing to do with each other."""
# A count is corrected so often: after words that join with their neighbours to fewer or more tokens than they have.
_CORRECTIONS = 16


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What texts are made of: `words` that are one token each behind another word. Without `count` any is.

    `adds_up`: a text has as many tokens as its words together, so that to know one is to know the first word's.
    """

    words: Sequence[str] = WORDS
    count: Count | None = None
    adds_up: bool = True


PLAIN = Vocabulary()


def vocabulary(count: Count | None) -> Vocabulary:
    """Of a tokenizer. Raises ValueError if it has none of the words."""
    if count is None:
        return PLAIN
    one = count("the")
    words = [word for word in WORDS if count(f"the {word}") == one + 1]
    if not words:
        raise ValueError(f"none of {len(WORDS)} common English words is one token of this tokenizer")
    # Nearly all tokenizers split at spaces first. One that does not joins some of these, each beside two others.
    several = [*words, *words[::-1], *words[::2], *words[1::2]]
    return Vocabulary(words, count, count(" ".join(several)) == count(words[0]) + len(several) - 1)


def synthesise(
    count: int, lengths: Lengths, seed: int, vocabulary: Vocabulary = PLAIN, outputs: Lengths | None = None
) -> tuple[Prompt, ...]:
    """`count` prompts of `lengths` tokens; with `outputs`, each with max_tokens of its own.

    Raises ValueError if no words of the vocabulary reach such a length.
    """
    limits = outputs.draw(count, seed + 1) if outputs else (None,) * count
    writer, wanted = Writer(seed, vocabulary), lengths.draw(count, seed)
    return tuple(writer.prompt(length, limit) for length, limit in zip(wanted, limits, strict=True))


class Writer:
    """Writes texts of the seed, each with words of its own."""

    def __init__(self, seed: int, vocabulary: Vocabulary = PLAIN) -> None:
        # Raw draws: numpy promises them to stay as they are.
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, _STREAM]))
        self._vocabulary = vocabulary

    def prompt(self, length: int, max_tokens: int | None, begin: Sequence[str] = ()) -> Prompt:
        """Of `length` tokens; it begins with the words `begin`, as many as have room. Raises ValueError."""
        text = self._text(length, [*begin[:length], *self.words(max(length - len(begin), 0))])
        return Prompt(text, max_tokens, None if self._vocabulary.count is None else length)

    def words(self, count: int) -> list[str]:
        words = self._vocabulary.words
        return [words[at] for at in (self._bits.random_raw(count) % len(words)).tolist()]

    def _text(self, length: int, words: list[str]) -> str:
        for _ in range(_CORRECTIONS):
            over = self._tokens(words) - length
            if not over:
                return " ".join(words)
            # The first word has no space in front and may be more than one token: it changes last.
            words = words[: max(1, len(words) - over)] if over > 0 else words + self.words(-over)
            if len(words) == 1:
                words = self.words(1)
        raise ValueError(f"found no words that make exactly {length} tokens")

    def _tokens(self, words: Sequence[str]) -> int:
        count = self._vocabulary.count
        if count is None:
            return len(words)
        return count(words[0]) + len(words) - 1 if self._vocabulary.adds_up else count(" ".join(words))


def counted_by(tokenizer: Path | None) -> str:
    """Whose tokens the lengths are, for the plan and the report."""
    return "words, taken for tokens (no tokenizer was given)" if tokenizer is None else f"the tokenizer {tokenizer}"
