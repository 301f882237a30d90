"""Tokens of a text, counted as a model's own tokenizer.json does (the file of Hugging Face's tokenizers library).

Both who makes prompts up and who reads answers count with it. What is added around a text (a chat template, the token
that ends an answer) is not in the text and not counted.
"""

from __future__ import annotations

from collections.abc import Callable

Count = Callable[[str], int]


def counter(tokenizer: str, name: str) -> Count:
    """Counts with `tokenizer`, the text of such a file. Raises ValueError, in one line that begins with `name`."""
    try:
        # It is large, and only in one extra: who counts nothing needs none.
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ValueError(f"{name}: to count with it takes the package tokenizers: pip install tokenizers") from error
    try:
        made = Tokenizer.from_str(tokenizer)
    except Exception as error:
        raise ValueError(f"{name}: expected a tokenizer.json ({' '.join(str(error).split())})") from error
    made.no_truncation()
    made.no_padding()
    # Without the places of the tokens in the text, which nobody asks for.
    return lambda text: len(made.encode_batch_fast([text], add_special_tokens=False)[0])
