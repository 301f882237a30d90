"""What programs really said of failed requests, and what it was.

`messages.json`: `produced` here, with the versions that `origin` names, or `quoted` from the thread or source that it
names; paths of tracebacks are shortened, every other character is as it was. `false_friends` read like something else
than they are; those without a source are made up to mislead.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from harness.failures import Kind


class Said(NamedTuple):
    """`code`: what the protocol said with it, "" where the source does not tell."""

    kind: Kind
    code: str
    message: str
    origin: str


_ROWS = json.loads(Path(__file__).with_suffix(".json").read_text())
PRODUCED, QUOTED, FALSE_FRIENDS = (
    tuple(Said(**row) for row in _ROWS[group]) for group in ("produced", "quoted", "false_friends")
)
