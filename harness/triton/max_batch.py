"""`max_batch_size` in a model's config.pbtxt: its text is edited, and what has to go with it.

Preferred batch sizes above it would make Triton refuse the configuration: they leave. The rest stays as it is, and that
is proven: both texts are parsed by protobuf and differ in these two alone.
"""

from __future__ import annotations

import re

from harness.errors import UsageError, WorldError
from harness.triton.pbtxt import Field, fields, tokens
from harness.triton.protobuf import ModelConfig, parse

KEY = "max_batch_size"
_SEPARATOR = re.compile(r"^\s*[,;]")


def edit_max_batch(text: str, size: int, name: str = "config.pbtxt") -> str:
    """`text` with that `max_batch_size`. Raises UsageError where it is no configuration, or none of a model in batches;
    WorldError where it cannot be edited safely.
    """
    before = parse(text, name)
    if not size >= 1:
        raise UsageError(f"{name}: a {KEY} of {size}: at least 1")
    if before.max_batch_size < 1:
        raise UsageError(f"{name}: {KEY} is {before.max_batch_size}: Triton forms no batches of it, so none is reduced")
    found = [field for field in fields(tokens(text)) if field.name == KEY]
    edited = f"{text[: found[-1].start]}{KEY}: {size}{text[found[-1].end :]}"
    edited = _without_larger(edited, size)
    wanted = ModelConfig()
    wanted.CopyFrom(before)
    wanted.max_batch_size = size
    if wanted.HasField("dynamic_batching"):
        kept = [each for each in before.dynamic_batching.preferred_batch_size if each <= size]
        del wanted.dynamic_batching.preferred_batch_size[:]
        wanted.dynamic_batching.preferred_batch_size.extend(kept)
    try:
        same = parse(edited, name) == wanted
    except UsageError:
        same = False
    if not same:
        raise WorldError(f"{name}: its {KEY} cannot be edited safely: write {KEY}: {size} by hand")
    return edited


def only_resized(text: str, before: str) -> bool:
    """Whether `text` is `before` with another `max_batch_size`, as `edit_max_batch` writes it, and nothing else."""
    try:
        return edit_max_batch(before, parse(text, KEY).max_batch_size) == text
    except (UsageError, WorldError):
        return False


def _without_larger(text: str, size: int) -> str:
    """Preferred batch sizes of at most `size`."""
    for batching in (field for field in fields(tokens(text)) if field.name == "dynamic_batching"):
        # From the last: what is before it keeps its place.
        for preferred in reversed([each for each in fields(batching.body) if each.name == "preferred_batch_size"]):
            kept = [number for number in _numbers(preferred) if number <= size]
            said = f"preferred_batch_size: [ {', '.join(map(str, kept))} ]" if kept else ""
            if len(kept) != len(_numbers(preferred)):
                rest = text[preferred.end :]
                if not said:
                    rest = _SEPARATOR.sub("", rest)
                text = f"{text[: preferred.start]}{said}{rest}"
    return text


def _numbers(field: Field) -> list[int]:
    said = "".join(token.text + " " for token in field.inside if token.kind == "word")
    return [_number(number) for number in re.findall(r"\b\d\w*", said)]


def _number(text: str) -> int:
    """As protobuf reads it: 16, 0x10 and 020 are the same."""
    octal = text[0] == "0" and text[1:].isdecimal()
    return int(text, 8 if octal else 0)
