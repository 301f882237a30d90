"""What an operation saw, judged: observations to findings to a verdict. Pure, the same bytes for the same facts.

Guarantee: a fact that is missing never passes. `promote` means that the operation did all it should, and that it was
seen; `rollback` that something is proven to be wrong; everything else, also an operation cut short, is `inconclusive`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pyarrow as pa

from harness.errors import RecordingError
from harness.judge.operations import ab as ab
from harness.judge.operations import find as find
from harness.judge.operations import long_context as long_context
from harness.judge.operations import night as night
from harness.judge.operations import regions as regions
from harness.judge.operations import retire as retire
from harness.judge.operations import server as server
from harness.judge.operations import sync as sync
from harness.judge.operations.long_derived import long_derived as long_derived
from harness.judge.operations.long_fits import SHORT as SHORT
from harness.judge.operations.long_fits import TOO_LONG as TOO_LONG
from harness.judge.operations.long_fits import LongFits as LongFits
from harness.judge.operations.long_fits import limit_share as limit_share
from harness.judge.operations.long_fits import long_fits as long_fits
from harness.judge.operations.long_fits import proven as proven
from harness.judge.operations.search import Ask as Ask
from harness.judge.operations.search import Search as Search
from harness.judge.operations.search import judged as judged
from harness.judge.operations.trials import BLOCKS as BLOCKS
from harness.types import Decision, Finding, StageVerdict, Verdict

_KINDS = {
    "repo-sync": sync,
    "multi-region": regions,
    "retire-model": retire,
    "multi-model-server": server,
    "night-batch": night,
    "find-max-load": find,
    "ab-test": ab,
    "long-context": long_context,
}

Tables = Callable[[str], pa.Table | None]
"""The recording's tables by name; None of what it does not have."""


def judge_operation(observations: Mapping[str, Any], tables: Tables = lambda _: None) -> Verdict:
    """The verdict of an observations.json, and of an ab-test's recording beside it. Raises RecordingError: it is
    damaged, or of an unknown kind.
    """
    kind = observations.get("kind")
    if kind not in _KINDS:
        raise RecordingError(f"observations.json: expected a kind of {', '.join(_KINDS)}, found {kind!r}")
    try:
        if kind == "ab-test":
            findings = ab.findings(observations, tables)
            decision, reason = ab.decide(observations, findings)
        else:
            findings = _KINDS[kind].findings(observations)
            decision, reason = _decide(_KINDS[kind], observations, findings)
        needs = _needs(_KINDS[kind], observations, findings) if decision == "inconclusive" else ""
    except (ArithmeticError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise RecordingError(f"observations.json: is damaged: {type(error).__name__}: {error}") from error
    return Verdict(decision, reason, (StageVerdict(0, decision, reason, findings),), needs)


def _decide(kind: ModuleType, observations: Mapping[str, Any], findings: tuple[Finding, ...]) -> tuple[Decision, str]:
    if any(finding.outcome == "fail" for finding in findings):
        return "rollback", kind.failed(findings)
    if not observations.get("finished"):
        why = str(observations.get("error") or "")
        return "inconclusive", "The operation did not come to its end" + (f": {why}" if why else "")
    open_ones = [finding for finding in findings if finding.outcome != "pass"]
    if open_ones:
        # A load that was not as asked is why what it measured does not count.
        return "inconclusive", next(filter(_of_a_load, open_ones), open_ones[0]).reason
    if not findings:
        return "inconclusive", "Nothing was observed"
    return "promote", kind.done(observations)


def _needs(kind: ModuleType, observations: Mapping[str, Any], findings: tuple[Finding, ...]) -> str:
    if not observations.get("finished"):
        return "an operation that comes to its end: run it again"
    if kind is ab:
        return ab.needs(findings)
    if hasattr(kind, "needs"):
        return str(kind.needs(observations))
    missing = [finding for finding in findings if finding.outcome != "pass"]
    if any(map(_of_a_load, missing)):
        return "a load that this machine can send: more `workers`, or a faster machine"
    facts = ", ".join(finding.metric for finding in missing)
    return f"facts for {facts}" if facts else "an operation that observes something"


def _of_a_load(finding: Finding) -> bool:
    """Whether it says that a load was not as asked."""
    return finding.outcome == "inconclusive" and "load" in finding.metric.split(".")
