"""verdict.json: the verdict as one canonical document, byte-identical for the same recording."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from typing import Any

from harness.types import Finding, SecondOpinion, StageVerdict, Verdict

FORMAT = 1
# Beyond these digits libraries may round differently from machine to machine.
DIGITS = 9


def verdict_json(verdict: Verdict, meta: Mapping[str, Any], opinion: SecondOpinion | None = None) -> str:
    """The document, described by `schema()`. Keys are sorted; numbers have nine digits; ends with a newline.

    `meta`: run.json, {} if there is none. `opinion`: another judge's, where one was asked for.
    """
    scenario = meta.get("scenario")
    document = {
        "format": FORMAT,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "needs": verdict.needs,
        "exit_code": verdict.exit_code,
        "run": {
            "scenario": scenario.get("name", "") if isinstance(scenario, Mapping) else "",
            "started_utc": str(meta.get("started_utc") or ""),
            "seed": meta.get("seed"),
            "finished": bool(meta.get("finished", not meta)),
        },
        "stages": [_stage(stage) for stage in verdict.stages],
        "findings": [_finding(finding) for finding in verdict.findings],
    }
    if opinion is not None:
        document["second_opinion"] = asdict(opinion)
    return json.dumps(_clean(document), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of the document."""
    text = resources.files("harness.judge").joinpath("verdict.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _stage(stage: StageVerdict) -> dict[str, Any]:
    audit = asdict(stage.audit) if stage.audit else None
    return {"stage": stage.stage, "verdict": stage.verdict, "reason": stage.reason, "audit": audit}


def _finding(finding: Finding) -> dict[str, Any]:
    return asdict(finding)


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
