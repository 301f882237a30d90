"""A recording to findings to a verdict. Pure: no socket, no process, no clock; the same bytes for the same
input.
"""

from harness.judge.amounts.memory import facts as memory_facts
from harness.judge.amounts.watched import Scene
from harness.judge.amounts.whose import Whose
from harness.judge.document import schema, verdict_json
from harness.judge.errors.traffic import STRAYS
from harness.judge.evidence import Evidence
from harness.judge.kayenta import second_opinion
from harness.judge.looks import replay
from harness.judge.metrics import KNOWN, default_gates, known_metric, normalise
from harness.judge.operations import (
    BLOCKS,
    SHORT,
    TOO_LONG,
    Ask,
    LongFits,
    Search,
    judge_operation,
    judged,
    limit_share,
    long_derived,
    long_fits,
    proven,
)
from harness.judge.over_time import evidence_over_time
from harness.judge.sketched.evidence import MOST_SAMPLES, evidence_of
from harness.judge.stage import judge_stage
from harness.judge.validity.planned import ROUTED
from harness.judge.verdict import judge

__all__ = [
    "BLOCKS",
    "KNOWN",
    "MOST_SAMPLES",
    "ROUTED",
    "SHORT",
    "STRAYS",
    "TOO_LONG",
    "Ask",
    "Evidence",
    "LongFits",
    "Scene",
    "Search",
    "Whose",
    "default_gates",
    "evidence_of",
    "evidence_over_time",
    "judge",
    "judge_operation",
    "judge_stage",
    "judged",
    "known_metric",
    "limit_share",
    "long_derived",
    "long_fits",
    "memory_facts",
    "normalise",
    "proven",
    "replay",
    "schema",
    "second_opinion",
    "verdict_json",
]
