"""A model's configuration from elsewhere, with the version policy that is in force here."""

from __future__ import annotations

from harness.errors import WorldError
from harness.triton.pbtxt import fields, tokens
from harness.triton.protobuf import parse, text_of

POLICY = "version_policy"


def keep_version_policy(local: bytes, incoming: bytes, name: str = "config.pbtxt") -> bytes:
    """`incoming` with the version policy of `local` (none where it has none); all its other text stays as it is.

    Raises UsageError where one of them is no model configuration.
    """
    texts = [text_of(content, name) for content in (local, incoming)]
    ours, theirs = ([field for field in fields(tokens(text)) if field.name == POLICY] for text in texts)
    kept = texts[0][ours[0].start : ours[0].end] if ours else ""
    text = texts[1]
    if theirs:
        start, end = theirs[0].start, theirs[0].end
        merged = text[:start] + kept + text[end:]
    elif kept:
        line_end = "\r\n" if "\r\n" in text else "\n"
        merged = f"{text}{'' if not text or text.endswith(line_end) else line_end}{kept}{line_end}"
    else:
        merged = text
    in_force, wanted = (parse(each, name) for each in texts)
    wanted.ClearField(POLICY)
    if ours:
        wanted.version_policy.CopyFrom(in_force.version_policy)
    if parse(merged, name) != wanted:
        raise WorldError(f"{name}: its version_policy cannot be kept safely: merge it by hand")
    return merged.encode()
