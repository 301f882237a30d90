"""Made-up prompts: whose tokens count, and that a seed fixes them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from harness.scenario.lengths import parse_lengths
from harness.scenario.replay import prompts_of
from harness.scenario.synthetic import PLAIN, Vocabulary, Writer, counted_by, synthesise, vocabulary
from harness.scenario.trace import Row
from harness.scenario.word_list import WORDS
from harness.tokens import counter
from tests.tokenizer import tokenizer_json

LENGTHS = [1, 2, 3, 17, 500]


def texts_of(lengths: list[int], seed: int, words: Vocabulary = PLAIN) -> list[str]:
    writer = Writer(seed, words)
    return [writer.prompt(length, None).text for length in lengths]


def test_without_a_tokenizer_a_word_is_a_token() -> None:
    prompts = synthesise(50, parse_lengths("uniform 3 9"), 7, outputs=parse_lengths("uniform 1 4"))
    assert {len(prompt.text.split()) for prompt in prompts} == set(range(3, 10))
    assert {prompt.max_tokens for prompt in prompts} == {1, 2, 3, 4}
    assert all(set(prompt.text.split()) <= set(WORDS) for prompt in prompts)
    # A guess is not given out for a count.
    assert {prompt.tokens for prompt in prompts} == {None}
    assert "taken for tokens" in counted_by(None)


def test_a_seed_fixes_every_word() -> None:
    lengths = parse_lengths(20)
    one, again, other = (synthesise(30, lengths, seed) for seed in (7, 7, 8))
    assert one == again
    assert not {prompt.text for prompt in one} & {prompt.text for prompt in other}
    assert len({prompt.text for prompt in one}) == 30
    assert all(prompt.max_tokens is None for prompt in one)
    # What a seed means does not change from one Python or machine to the next.
    assert texts_of([4], 7) == ["might wave milk team"]


def test_a_tokenizer_counts_exactly() -> None:
    count = counter(tokenizer_json(), "t.json")
    words = vocabulary(count)
    assert words.adds_up
    texts = texts_of(LENGTHS, 7, words)
    assert [count(text) for text in texts] == LENGTHS
    assert texts == texts_of(LENGTHS, 7, words)
    assert {prompt.tokens for prompt in synthesise(9, parse_lengths(17), 7, words)} == {17}
    assert "t.json" in counted_by(Path("t.json"))


def joins(text: str) -> int:
    """Tokens of one that takes two short words for one token, and a first word for two."""
    words = text.split()
    return len(words) + 1 - sum(len(one) == len(two) == 4 for one, two in pairwise(words))


def test_a_tokenizer_that_joins_words_is_asked_for_every_text() -> None:
    words = vocabulary(joins)
    assert not words.adds_up
    assert [joins(text) for text in texts_of(LENGTHS[1:], 7, words)] == LENGTHS[1:]


def test_the_lengths_of_a_trace_are_in_the_tokenizers_tokens_too() -> None:
    count = counter(tokenizer_json(), "t.json")
    rows = (Row(0, 700, 3, (1, 2)), Row(1, 1100, 4, (1, 2)), Row(2, 5, 1))
    prompts = prompts_of(rows, 7, vocabulary(count))
    assert [count(prompt.text) for prompt in prompts] == [prompt.tokens for prompt in prompts] == [700, 1100, 5]
    first, second = (prompt.text.split() for prompt in prompts[:2])
    assert first == second[: len(first)]
    # Words alone would have been too many tokens.
    assert count(prompts_of(rows, 7)[0].text) > 800


@pytest.mark.weights
def test_the_demonstration_models_own_tokenizer_counts_exactly() -> None:
    from harness.embedded.runtime import weights_file
    from harness.embedded.smollm2.gguf_file import GgufFile
    from harness.embedded.smollm2.tokenizer import SmolTokenizer

    weights = weights_file()
    assert weights
    own = SmolTokenizer(GgufFile(weights).metadata)
    words = vocabulary(counter(own._tokenizer.to_str(), "t.json"))
    assert words.adds_up
    lengths = [1, 2, 100, 1000]
    assert [len(own.encode(text)) for text in texts_of(lengths, 7, words)] == lengths
    # And what is estimated without it is near the truth.
    estimated = [len(own.encode(text)) for text in texts_of(lengths, 7)]
    assert estimated == pytest.approx(lengths, rel=0.02, abs=1)


def test_a_tokenizer_that_cannot_reach_a_length_says_so() -> None:
    with pytest.raises(ValueError, match="common English words is one token of this tokenizer"):
        vocabulary(lambda text: 1)
    # Every word is one unknown token: that is a count, too.
    assert len(texts_of([3], 7, vocabulary(lambda text: len(text.split())))[0].split()) == 3
    with pytest.raises(ValueError, match="found no words that make exactly 1 tokens"):
        texts_of([1], 7, vocabulary(joins))
