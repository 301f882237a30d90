"""Made-up prompts: whose tokens count, and that a seed fixes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.scenario.lengths import parse_lengths
from harness.scenario.synthetic import counted_by, synthesise, texts_of
from harness.scenario.word_list import WORDS


def test_without_a_tokenizer_a_word_is_a_token() -> None:
    prompts = synthesise(50, parse_lengths("uniform 3 9"), 7, outputs=parse_lengths("uniform 1 4"))
    assert {len(prompt.text.split()) for prompt in prompts} == set(range(3, 10))
    assert {prompt.max_tokens for prompt in prompts} == {1, 2, 3, 4}
    assert all(set(prompt.text.split()) <= set(WORDS) for prompt in prompts)
    assert "taken for tokens" in counted_by(None)


def test_a_seed_fixes_every_word() -> None:
    lengths = parse_lengths(20)
    one, again, other = (synthesise(30, lengths, seed) for seed in (7, 7, 8))
    assert one == again
    assert not {prompt.text for prompt in one} & {prompt.text for prompt in other}
    assert len({prompt.text for prompt in one}) == 30
    assert all(prompt.max_tokens is None for prompt in one)
    # What a seed means does not change from one Python or machine to the next.
    assert texts_of([4], 7) == ("might wave milk team",)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """One of whole words and, for what it has no word for, characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {token: number for number, token in enumerate(["[UNK]", *letters, *WORDS[100:300]])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(4)
    file = tmp_path / "tokenizer.json"
    made.save(str(file))
    return file


def test_a_tokenizer_counts_exactly(tokenizer: Path) -> None:
    from tokenizers import Tokenizer

    count = Tokenizer.from_file(str(tokenizer))
    count.no_truncation()
    lengths = [1, 2, 3, 17, 500]
    texts = texts_of(lengths, 7, tokenizer)
    assert [len(count.encode(text).ids) for text in texts] == lengths
    assert texts == texts_of(lengths, 7, tokenizer)
    assert str(tokenizer) in counted_by(tokenizer)


@pytest.mark.weights
def test_the_demonstration_models_own_tokenizer_counts_exactly(tmp_path: Path) -> None:
    from harness.embedded.runtime import weights_file
    from harness.embedded.smollm2.gguf_file import GgufFile
    from harness.embedded.smollm2.tokenizer import SmolTokenizer

    weights = weights_file()
    assert weights
    own = SmolTokenizer(GgufFile(weights).metadata)
    file = tmp_path / "tokenizer.json"
    file.write_text(own._tokenizer.to_str())
    lengths = [1, 2, 100, 1000]
    assert [len(own.encode(text)) for text in texts_of(lengths, 7, file)] == lengths
    # And what is estimated without it is near the truth.
    estimated = [len(own.encode(text)) for text in texts_of(lengths, 7)]
    assert estimated == pytest.approx(lengths, rel=0.02, abs=1)


def test_tokenizers_that_cannot_count_are_said_in_one_line(tmp_path: Path) -> None:
    folder, text, foreign = tmp_path / "folder", tmp_path / "text", tmp_path / "foreign"
    folder.mkdir()
    text.write_text("not json")
    vocabulary = {"[UNK]": 0, "ja": 1}
    foreign.write_text(
        json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                    "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
                    "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}})
    )  # fmt: skip
    for file in (tmp_path / "none", folder, text):
        with pytest.raises(ValueError, match=r"expected a tokenizer.json, found .*"):
            texts_of([3], 7, file)
    # Every word is one unknown token: that is a count, too.
    assert len(texts_of([3], 7, foreign)[0].split()) == 3
