"""perf_analyzer's `--profile-export-file`: one JSON document, with an experiment for each level of load.

`timestamp` is when a request was sent, `response_timestamps` when its answers came, ns of the day's clock; a stream of
tokens has one answer a token or more, and Triton's empty last one. Each experiment becomes a stage. There are no due
times, also with `--request-rate-range`; nobody counts tokens; and as perf_analyzer ends at the first failed request
without writing the file, no failure is ever in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.errors import UsageError
from harness.recording.importers.run import Run, samples_of

TOOL = "perf_analyzer"


class _Request(NamedTuple):
    """All that is kept of a request: its tensors are gone as soon as it is parsed. -1 is unknown."""

    sent_ns: int
    first_ns: int
    done_ns: int
    answers: int


def recognises(head: bytes) -> bool:
    return head[:1] == b"{" and b'"experiments"' in head and b'"response_timestamps"' in head


def read(path: Path) -> Run:
    """Raises UsageError naming file, line and key."""
    try:
        document = json.loads(path.read_bytes(), object_hook=_kept)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}:{error.colno}: {TOOL}: is not JSON: {error.msg}") from error
    except (UnicodeDecodeError, _NoNumber) as error:
        raise UsageError(f"{path}: {TOOL}: {error}") from error
    experiments = document.get("experiments") if isinstance(document, Mapping) else None
    if not isinstance(experiments, list):
        raise UsageError(f"{path}: {TOOL}: experiments: expected a list")
    loads, stages, rows = [], [], []
    for stage, entry in enumerate(experiments):
        requests = entry.get("requests") if isinstance(entry, Mapping) else None
        if not isinstance(requests, list) or not all(isinstance(request, _Request) for request in requests):
            wanted = "a list of objects with timestamp and response_timestamps"
            raise UsageError(f"{path}: {TOOL}: experiments.{stage}.requests: expected {wanted}")
        asked = entry.get("experiment") or {}
        loads.append(f"{asked.get('mode', '')} {asked.get('value', '')}".strip())
        stages += [stage] * len(requests)
        rows += requests
    sent, first, done, answers = np.array(rows, np.int64).reshape(-1, 4).T
    notes = [f"{TOOL} ends at the first failed request, so it says only that none failed"]
    streams = bool((answers > 1).any())
    if streams and document.get("service_kind") != "triton":
        notes.append("its empty chunks cannot be told from tokens, so there is no ttft")
        streams = False
    answered = done >= 0
    if lost := int((~answered).sum()):
        notes.append(f"{lost} of its requests have no answer and count as errors")
    samples = samples_of(
        path, len(rows), stage=np.array(stages, np.int32), sent_ns=sent, done_ns=np.where(answered, done, sent),
        first_ns=first if streams else np.full(len(rows), -1), status=np.where(answered, "ok", "error"),
        error=np.where(answered, "", "no answer"),
    )  # fmt: skip
    return Run(TOOL, samples, loads=tuple(loads), notes=tuple(notes))


class _NoNumber(ValueError):
    pass


def _kept(found: dict[str, Any]) -> Any:
    if "response_timestamps" not in found:
        return found
    sent, answers = found.get("timestamp"), found["response_timestamps"]
    if not isinstance(sent, int) or not isinstance(answers, list) or not all(isinstance(t, int) for t in answers):
        raise _NoNumber(
            f"timestamp, response_timestamps: expected a number of ns and a list of them, found {sent!r}, {answers!r}"
        )
    if not answers:
        return _Request(sent, -1, -1, 0)
    first = min(_first(found.get("response_outputs")), len(answers) - 1)
    return _Request(sent, answers[first], answers[-1], len(answers))


def _first(outputs: Any) -> int:
    """Which answer is the first with text in it; the first one, of a model that answers otherwise."""
    texts = [output.get("text_output") for output in outputs or () if isinstance(output, Mapping)]
    return next((i for i, text in enumerate(texts) if text), 0)
