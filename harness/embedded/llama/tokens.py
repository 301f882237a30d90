"""The tokenizer of a model with random weights: a word is a token."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

FIRST = 16
"""Tokens below are kept for control tokens, which such a model has none of."""


class WordTokenizer:
    """The same word is the same token, on every machine. Nothing ends an answer but its limit."""

    end = -1

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def encode(self, text: str) -> list[int]:
        return [self._id(word) for word in text.split()]

    def chat(self, text: str) -> list[int]:
        """A model that was never taught has no template."""
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f" w{token}" for token in ids)

    def _id(self, word: str) -> int:
        if word[:1] == "w" and word[1:].isdecimal() and FIRST <= int(word[1:]) < self._vocabulary:
            return int(word[1:])  # what it said itself
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        return FIRST + int.from_bytes(digest, "big") % (self._vocabulary - FIRST)
