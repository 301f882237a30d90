"""Whether the tokens of both arms' answers were counted alike: tpot divides by their number.

An engine counts what is in no text, such as the token that ends an answer; on sixteen tokens that alone is six percent.
"""

from __future__ import annotations

from harness.judge.columns import ARMS
from harness.judge.validity.fault import Fault, fault
from harness.judge.validity.signals import series
from harness.judge.view import StageView
from harness.types import Finding

BY_TOKENIZER = "osl.by_tokenizer"


def judge(view: StageView) -> Fault | None:
    """One arm's engine counts, the other's does not."""
    here = {device.rpartition("/")[2] for device in series(view, "generator", BY_TOKENIZER)}
    counted = [ARMS[arm] in here for arm in range(2)]
    if counted[0] == counted[1] or not all(view.tokens(arm)[1] for arm in range(2)):
        return None
    by_tokenizer, by_engine = view.names if counted[0] else view.names[::-1]
    reason = (
        f"the engine of {by_engine} counted its tokens, load.tokenizer those of {by_tokenizer}: over two ways to count "
        "tpot, osl and tokens a second are not compared; judge ttft and response_time"
    )
    gated = any(of_tokens(gate.metric) for gate in view.evidence.rules)
    return fault(view, "tokens", reason, voids=compared, stops=gated and view.role == "comparison")


def of_tokens(metric: str) -> bool:
    return metric.partition(".")[0] in ("tpot", "osl", "output_token_throughput")


def compared(failed: Finding) -> bool:
    return of_tokens(failed.metric) and failed.unit == "ratio"
