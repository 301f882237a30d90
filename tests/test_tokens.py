"""Tokens as a tokenizer.json counts them."""

from __future__ import annotations

import json
import sys

import pytest

from harness.scenario.word_list import WORDS
from harness.tokens import counter
from tests.tokenizer import tokenizer_json


def test_the_tokens_of_the_text_and_nothing_else() -> None:
    count = counter(tokenizer_json(), "t.json")
    assert count("") == 0
    assert count(" ".join(WORDS[100:120])) == 20
    assert count(f"{WORDS[100]} xyz") == 4


def test_what_cannot_count_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", "no json", json.dumps({"version": "1.0"})):
        with pytest.raises(ValueError, match=r"^t\.json: expected a tokenizer\.json \(.+\)$"):
            counter(text, "t.json")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"^t\.json: .* the package tokenizers: pip install tokenizers$"):
        counter("{}", "t.json")
