"""A small tokenizer.json: whole tokens for some common words, pieces of one letter for all else."""

from __future__ import annotations

from pathlib import Path

from harness.scenario.word_list import WORDS

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tokenizer_json() -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = {token: number for number, token in enumerate(["[UNK]", "[CLS]", *pieces, *WORDS[100:300]])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    # As real ones do: a token in front of every text, and long texts cut. Neither may be counted.
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    made.enable_truncation(4)
    text: str = made.to_str()
    return text


def write_tokenizer(folder: Path) -> Path:
    file = folder / "tokenizer.json"
    file.write_text(tokenizer_json())
    return file
