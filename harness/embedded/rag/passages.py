"""Python's language reference, cut into passages that fit a small model's context."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from harness.errors import UsageError

LONGEST = 400  # characters: about 100 tokens, half a second of prefill on one core
SHORTEST = 80  # a heading or half a sentence answers nothing
PER_TOPIC = 5  # the first ones define the topic; what follows are its corners

_PARAGRAPH = re.compile(r"\n\s*\n")
_RULE = re.compile(r"([*=~^-])\1{3}|^-\[ ")  # what underlines a heading, frames a table, or is one: -[ Footnotes ]-
_SENTENCE_END = re.compile(r"[.:;?!] ")


class Passage(NamedTuple):
    topic: str
    text: str


def passages() -> tuple[Passage, ...]:
    """A few hundred passages, sorted by topic, the same ones for the same Python.

    UsageError where this Python came without its documentation (some distributions package it apart).
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UsageError(
            "this Python has no pydoc_data, whose passages rag-pipeline searches: install the whole standard library"
        ) from error
    return tuple(Passage(topic, text) for topic in sorted(topics) for text in cut(topics[topic])[:PER_TOPIC])


def cut(document: str) -> list[str]:
    """Paragraphs put together while they fit, longer ones cut at the ends of sentences; no grammar, no tables."""
    found: list[str] = []
    held = ""
    for paragraph in _prose(document):
        for part in _parts(paragraph):
            together = f"{held} {part}".strip()
            if len(together) <= LONGEST:
                held = together
                continue
            found.append(held)
            held = part
    return [text for text in (*found, held) if len(text) >= SHORTEST]


def _prose(document: str) -> Iterator[str]:
    for paragraph in _PARAGRAPH.split(document):
        if "::=" not in paragraph and not _RULE.search(paragraph):
            yield " ".join(paragraph.split())


def _parts(paragraph: str) -> Iterator[str]:
    while len(paragraph) > LONGEST:
        ends = [match.end() for match in _SENTENCE_END.finditer(paragraph, 0, LONGEST)]
        at = ends[-1] if ends and ends[-1] >= SHORTEST else paragraph.rfind(" ", 0, LONGEST) + 1 or LONGEST
        yield paragraph[:at].strip()
        paragraph = paragraph[at:].strip()
    if paragraph:
        yield paragraph
