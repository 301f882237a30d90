"""The tokenizer, rebuilt from the GGUF's metadata, and the chat template of SmolLM2-Instruct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


class SmolTokenizer:
    """Byte-level BPE with single digits. Text never becomes a control token: those are set by id only."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        tokens: list[str] = metadata["tokenizer.ggml.tokens"]
        merges = [tuple(pair.split(" ")) for pair in metadata["tokenizer.ggml.merges"]]
        self._ids = {token: i for i, token in enumerate(tokens)}
        self._tokenizer = Tokenizer(models.BPE(self._ids, merges))
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        self._tokenizer.decoder = decoders.ByteLevel()
        self.end = int(metadata["tokenizer.ggml.eos_token_id"])
        control = [i for i, kind in enumerate(metadata["tokenizer.ggml.token_type"]) if kind == 3]
        self._control = frozenset(control)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; control tokens have none, half a character is U+FFFD."""
        text: str = self._tokenizer.decode([i for i in ids if i not in self._control], skip_special_tokens=False)
        return text

    def chat(self, text: str) -> list[int]:
        """`text` as a user's message after the default system message, up to where the answer begins."""
        start, end, newline = self._ids["<|im_start|>"], self.end, self.encode("\n")
        ids: list[int] = []
        for role, content in (("system", SYSTEM), ("user", text)):
            ids += [start, *self.encode(f"{role}\n{content}"), end, *newline]
        return [*ids, start, *self.encode("assistant\n")]


class Decodes(Protocol):
    """What turns tokens to text."""

    def decode(self, ids: Sequence[int]) -> str: ...


class Pieces:
    """Text of a growing answer, piece by piece; bytes that end in half a character wait for the rest."""

    def __init__(self, tokenizer: Decodes) -> None:
        self._tokenizer = tokenizer
        self._waiting: list[int] = []

    def add(self, token: int, last: bool) -> str:
        self._waiting.append(token)
        text = self._tokenizer.decode(self._waiting)
        if text.endswith("\N{REPLACEMENT CHARACTER}") and not last:
            return ""
        self._waiting = []
        return text
