"""A scanner of protobuf's text format: where each field of one level begins and ends. It knows no schema.

What it must not be fooled by: braces, quotes and field names inside comments and strings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<open>[{<\[])
      | (?P<close>[}>\]])
      | (?P<mark>[:,;])
      | (?P<word>[^\s\#"'{}<>\[\]:,;]+)""",
    re.VERBOSE | re.DOTALL,
)

Kind = Literal["comment", "string", "open", "close", "mark", "word"]


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Field:
    """A field `name: value` or `name { ... }`: [start, end) of it in the text.

    `inside`: every token from after the name to the end; `body`: those between the outermost braces.
    """

    name: str
    start: int
    end: int
    inside: Sequence[Token]
    body: Sequence[Token]
    body_start: int


def tokens(text: str) -> list[Token]:
    """Everything but white space, comments included. The text must have been parsed by protobuf before."""
    return [Token(match.lastgroup or "", match.group(), match.start(), match.end()) for match in _TOKEN.finditer(text)]


def fields(level: Sequence[Token]) -> list[Field]:
    """The fields of one level: a whole file, or the body of a field. Separators belong to none."""
    found: list[Field] = []
    position = 0
    while position < len(level):
        if level[position].kind == "word":
            last = _last_of_field(level, position)
            found.append(_field(level, position, last))
            position = last
        elif level[position].kind == "open":
            # An extension or Any name in brackets: [type.googleapis.com/foo] { ... }
            position = _matching(level, position)
        position += 1
    return found


def _last_of_field(level: Sequence[Token], name: int) -> int:
    """The index of the last token of the field that starts at `name`."""
    last = name
    for position in range(name + 1, len(level)):
        token = level[position]
        if token.kind == "comment" or (token.text == ":" and last == name):
            continue
        if token.kind == "open":
            return _matching(level, position)
        if token.kind == "string":
            # Adjacent strings are one value.
            last = position
            continue
        if token.kind == "word" and last == name:
            return position
        return last
    return last


def _matching(level: Sequence[Token], opening: int) -> int:
    depth = 0
    for position in range(opening, len(level)):
        depth += (level[position].kind == "open") - (level[position].kind == "close")
        if depth == 0:
            return position
    return len(level) - 1


def _field(level: Sequence[Token], name: int, last: int) -> Field:
    opening = next((p for p in range(name + 1, last + 1) if level[p].kind == "open"), last)
    return Field(
        name=level[name].text,
        start=level[name].start,
        end=level[last].end,
        inside=level[name + 1 : last + 1],
        body=level[opening + 1 : last],
        body_start=level[opening].end,
    )
