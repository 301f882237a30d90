"""Requests to an OpenAI-compatible front end, such as Triton's own: chat completions, or completions.

Its inputs are the fields of the request's JSON. `spec.FRONT_END` describes such a model where nobody can be asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.errors import UsageError
from harness.load.payload.head import head
from harness.load.payload.llm import max_tokens_of, seed_of
from harness.load.payload.rows import text_of
from harness.load.spec import LoadSpec
from harness.load.template import REQUEST_ID, Template
from harness.tensors import Tensor, decode, encode
from harness.types import Arm, Prompt

_ENDPOINTS = {"chat": "v1/chat/completions", "completions": "v1/completions"}


def endpoint_of(arm: Arm) -> str:
    """`chat` or `completions`, as the arm's parameter `endpoint` says. Raises UsageError for anything else."""
    name = arm.parameters.get("endpoint", "chat")
    if name not in _ENDPOINTS:
        raise UsageError(f"{arm.url}: the parameter endpoint is chat or completions, not {name!r}")
    return str(name)


def inputs(spec: LoadSpec, arm: Arm, prompt: Prompt) -> list[Tensor]:
    fields: list[tuple[str, str, Any]] = [
        ("text_input", "BYTES", text_of(spec, prompt)),
        ("max_tokens", "INT32", max_tokens_of(spec, prompt)),
        ("temperature", "FP32", 0.0),
        ("seed", "INT64", seed_of(spec)),
    ]
    if spec.own_logprob:
        # Chat has a switch, completions a number of alternatives.
        fields.append(("logprobs", "BOOL", True) if endpoint_of(arm) == "chat" else ("logprobs", "INT32", 1))
    return [Tensor(name, datatype, (1,), encode(datatype, [value])) for name, datatype, value in fields]


def openai(arm: Arm, tensors: Sequence[Tensor], *, stream: bool) -> Template:
    """One request. The arm's parameters are fields of it as they are; one that is null is left out."""
    endpoint = endpoint_of(arm)
    fields: dict[str, Any] = {"model": arm.model}
    for t in tensors:
        (value,) = decode(t.datatype, t.raw)
        if t.name != "text_input":
            fields[t.name] = value
        elif endpoint == "chat":
            fields["messages"] = [{"role": "user", "content": value.decode()}]
        else:
            fields["prompt"] = value.decode()
    fields["stream"] = stream
    if stream:
        # Without it nobody says how many tokens there were.
        fields["stream_options"] = {"include_usage": True}
    fields |= {name: value for name, value in arm.parameters.items() if name != "endpoint"}
    body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
    headers = {"X-Request-Id": REQUEST_ID, "Accept": "text/event-stream" if stream else "application/json"}
    return Template.of(head(arm, _ENDPOINTS[endpoint], len(body), headers) + body)
