"""Prompts made up from a seed, of wanted lengths in tokens: real words in random order.

Whose tokens they are is said by `counted_by`: those of a tokenizer.json (the package `tokenizers` counts), or,
without one, a word is taken for a token. The words here are so common that tokenizers of English text mostly have
them whole. What a server puts around a prompt (a chat template, a system message) comes on top of either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from harness.scenario.lengths import Lengths
from harness.scenario.word_list import WORDS
from harness.types import Prompt

Count = Callable[[str], int]

_STREAM = 3
"""Beside the plan's own (plan/draws.py), so that words and arrivals of one seed have nothing to do with each other."""
# A count is corrected so often: after words that join with their neighbours to fewer or more tokens than they have.
_CORRECTIONS = 16


def synthesise(
    count: int, lengths: Lengths, seed: int, tokenizer: Path | None = None, outputs: Lengths | None = None
) -> tuple[Prompt, ...]:
    """`count` prompts of `lengths` tokens; with `outputs`, each with max_tokens of its own.

    Raises ValueError if the tokenizer cannot be read, or reaches no such length with any words.
    """
    limits = outputs.draw(count, seed + 1) if outputs else (None,) * count
    texts = texts_of(lengths.draw(count, seed), seed, tokenizer)
    return tuple(Prompt(text, limit) for text, limit in zip(texts, limits, strict=True))


def texts_of(lengths: Sequence[int], seed: int, tokenizer: Path | None = None) -> tuple[str, ...]:
    """A text of each of the lengths in tokens. Raises ValueError as `synthesise` does."""
    # Raw draws: numpy promises them to stay as they are.
    bits = np.random.PCG64(np.random.SeedSequence([seed, _STREAM]))
    if tokenizer is None:
        return tuple(" ".join(_some(bits, WORDS, length)) for length in lengths)
    counted = _tokens_of(tokenizer)
    one = counted("the")
    whole = [word for word in WORDS if counted(f"the {word}") == one + 1]
    if not whole:
        raise ValueError(f"{tokenizer}: none of {len(WORDS)} common English words is one token of it")
    return tuple(_exactly(bits, whole, length, counted, tokenizer) for length in lengths)


def counted_by(tokenizer: Path | None) -> str:
    """Whose tokens the lengths are, for the plan and the report."""
    return "words, taken for tokens (no tokenizer was given)" if tokenizer is None else f"the tokenizer {tokenizer}"


def _exactly(bits: np.random.PCG64, words: Sequence[str], length: int, count: Count, tokenizer: Path) -> str:
    chosen = _some(bits, words, length)
    for _ in range(_CORRECTIONS):
        text = " ".join(chosen)
        over = count(text) - length
        if not over:
            return text
        # The first word has no space in front and may be more than one token: it changes last.
        chosen = chosen[: max(1, len(chosen) - over)] if over > 0 else chosen + _some(bits, words, -over)
        if len(chosen) == 1:
            chosen = _some(bits, words, 1)
    raise ValueError(f"{tokenizer}: found no words that make exactly {length} tokens")


def _some(bits: np.random.PCG64, words: Sequence[str], count: int) -> list[str]:
    return [words[at] for at in (bits.random_raw(count) % len(words)).tolist()]


def _tokens_of(file: Path) -> Count:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ValueError(f"counting with {file} needs the package tokenizers: pip install tokenizers") from error
    try:
        tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"expected a tokenizer.json, found {file}: {error.strerror}") from error
    except Exception as error:
        raise ValueError(f"expected a tokenizer.json, found {file}: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
