"""How numbers, metrics and stages are written, the same in every format. Text only, no markup."""

from __future__ import annotations

import math
from collections.abc import Iterable

from harness.types import Decision, Finding, Gate, Outcome, StagePlan, Verdict

# A word never stands on colour alone: each has a sign, too.
SIGN: dict[str, str] = {
    "promote": "✓",
    "rollback": "✗",
    "inconclusive": "?",
    "pass": "✓",
    "fail": "✗",
    "no data": "–",
}
NONE = "–"

LATENCIES = ("ttft", "tpot", "response_time", "request_latency", "icl")
TITLES: dict[str, str] = {
    "ttft": "Time to the first token",
    "tpot": "Time per output token",
    "response_time": "Response time",
    "request_latency": "Request latency",
    "icl": "Time between chunks",
}
MEANINGS: dict[str, str] = {
    "ttft": "From sending a request to its first token that is not empty.",
    "tpot": "From the first token to the last, divided by the tokens after the first.",
    "response_time": "From the time a request was due to its last byte; waiting for a slot counts.",
    "request_latency": "From sending a request to its last byte.",
    "icl": "From a chunk of a streamed answer to the next.",
}
ONE_SENTENCE: dict[Decision, str] = {
    "promote": "The candidate is at least as good as the baseline, within every margin.",
    "rollback": "The candidate is worse than the baseline by more than a margin allows.",
    "inconclusive": "The run does not show whether the candidate is as good as the baseline.",
}
PROTECTED = "The run was stopped to protect the traffic; it says nothing of how good the candidate is."
"""Of a rollback for one of OF_TRAFFIC alone."""
OF_TRAFFIC = ("traffic.strays", "deploy.errors")
_RANK: dict[str, int] = {"fail": 0, "inconclusive": 1, "no data": 2, "pass": 3}


def visible(text: str) -> str:
    """Control characters replaced, so that no text steers a terminal or breaks a page; lines stay."""
    if text.replace("\n", "").isprintable():  # nearly always, and a page asks for a million characters
        return text
    return "".join(c if c.isprintable() or c in "\n\t\N{NO-BREAK SPACE}" else "\N{REPLACEMENT CHARACTER}" for c in text)


def one_line(text: str) -> str:
    """`visible`, on one line."""
    return visible(" ".join(text.split()))


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits, no exponent for everyday sizes; what is almost nothing says so."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return "<0.0001" if value > 0 else ">-0.0001"
    if abs(value) >= 1e9:
        return f"{value:.{digits - 1}e}"
    rounded = abs(float(f"{value:.{digits - 1}e}"))  # 0.9999 is 1.00, not 1.000
    places = max(0, digits - 1 - math.floor(math.log10(rounded)))
    return f"{value:,.{places}f}"


def seconds(value: float | None) -> str:
    """A duration in the unit that reads best: us, ms or s, with three significant digits."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0 s"
    for limit, factor, unit in ((0.999e-3, 1e6, "µs"), (0.9995, 1e3, "ms")):
        if abs(value) < limit:
            return f"{number(value * factor)} {unit}"
    return f"{number(value)} s"


def clock(value: float) -> str:
    """Minutes and seconds for people who wait: 0:42, 12:05, 1:02:05."""
    whole = max(0, round(value))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def span(value: float) -> str:
    """A planned duration: 20 s, 10 min, 1.5 h."""
    if value < 120:
        return f"{value:g} s"
    amount, unit = (value / 60, "min") if value < 7200 else (value / 3600, "h")
    return f"{amount:.1f}".removesuffix(".0") + f" {unit}"


def percent(value: float | None, *, sign: bool = False) -> str:
    """A ratio of 0.1234 as 12.3 %; one decimal below 100 %."""
    if value is None or not math.isfinite(value):
        return NONE
    scaled = 100 * value
    if scaled == 0:
        return "0 %"
    if abs(scaled) >= 1e4:
        return ">10,000 %" if scaled > 0 else "<-10,000 %"
    places = 0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 0.095 else 2 if sign else 3
    text = f"{scaled:{'+' if sign else ''},.{places}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + " %"


def size(value: float | None, unit: str) -> str:
    """A reading in its unit; bytes as MiB or GiB, ratios as per cent."""
    if value is None or not math.isfinite(value):
        return NONE
    if unit == "bytes":
        return f"{number(value / 2**30)} GiB" if abs(value) >= 2**30 else f"{number(value / 2**20)} MiB"
    if unit == "ratio":
        return percent(value)
    if unit == "s":
        return seconds(value)
    return number(value) if unit in ("1", "") else f"{number(value)} {unit}"


def on_scale(value: float | None, unit: str) -> str:
    """An effect, an end of an interval, or a margin, in the finding's unit."""
    if value is None or not math.isfinite(value):
        return NONE
    if unit == "ratio":
        return percent(value - 1.0, sign=True)
    if unit == "pp":
        return percent(value, sign=True).replace(" %", " pp")
    if unit == "rate":
        return percent(value)
    if unit == "1":
        return f"{value:,.0f}"
    if unit == "bytes":
        return size(value, unit)
    if unit == "cosine":  # a distance without a unit
        return number(value)
    return seconds(value) if unit == "s" else f"{number(value)} {unit}".strip()


def effect(finding: Finding) -> str:
    return on_scale(finding.effect, finding.unit)


def interval(finding: Finding) -> str:
    """`+8.1 % to +16 %`; an end that is open is left out in words."""
    if finding.interval is None:
        return NONE
    low, high = finding.interval
    low = low if low is not None and math.isfinite(low) else None
    high = high if high is not None and math.isfinite(high) else None
    if low is None and high is None:
        return NONE
    if low is None:
        return f"at most {on_scale(high, finding.unit)}"
    if high is None:
        return f"at least {on_scale(low, finding.unit)}"
    left, right = on_scale(low, finding.unit), on_scale(high, finding.unit)
    tail = left.rpartition(" ")[2]  # one unit is enough where both ends have the same
    if " " in left and right.endswith(f" {tail}"):
        left = left.rpartition(" ")[0]
    return f"{left} to {right}"


def margin(finding: Finding) -> str:
    return on_scale(finding.margin, finding.unit)


_IN_NUMBERS = ("quality.kl", "quality.logprob", "quality.perplexity", "quality.cosine")
"""Quality in nats, logarithms or distances; the rest of it is shares."""


def unit_of(metric: str) -> str:
    """The unit of a baseline's or candidate's own value, as far as the metric's name implies one: s, rate (a share),
    1 (a count), bytes, J, 1/s; else "".
    """
    if metric.partition(".")[0] in (*LATENCIES, "steps"):
        return "s"
    if (
        metric.startswith("errors")
        or metric == "deploy.errors"
        or (metric.startswith("quality.") and not metric.startswith(_IN_NUMBERS))
    ):
        return "rate"
    if "throughput" in metric or metric == "goodput":
        return "1/s"
    return {"traffic.strays": "1", "memory.peak": "bytes", "energy": "J"}.get(metric, "")


def measured(metric: str, value: float | None) -> str:
    """A baseline's or candidate's own value, in the unit that the metric's name implies."""
    unit = unit_of(metric)
    if unit in ("s", "rate", "1", "bytes"):
        return on_scale(value, unit)
    text = number(value)
    return text if text == NONE else f"{text} {unit.removeprefix('1')}".rstrip()


def stage_name(plan: StagePlan) -> str:
    """`2: split 10 %`. Stages count from 1 for people."""
    return f"{plan.index + 1}: {stage_kind(plan)}"


def stage_kind(plan: StagePlan) -> str:
    if plan.purpose != "compare":
        return plan.purpose
    if plan.period:
        return f"{plan.mode} {plan.period}/{plan.periods}: {'candidate' if plan.candidate_share else 'baseline'}"
    return plan.mode if plan.mode != "split" else f"split {percent(plan.candidate_share)}"


def stage_mark(plan: StagePlan) -> str:
    """The shortest name that still tells stages apart, for figures."""
    if plan.purpose != "compare":
        return plan.purpose
    if plan.period:
        return f"{plan.period}/{plan.periods}"
    return plan.mode if plan.mode != "split" else percent(plan.candidate_share)


def stage_load(plan: StagePlan) -> str:
    unit = "pair" if plan.mode == "paired" else "request"
    if plan.in_flight is not None:
        ramp = "" if plan.in_flight_to is None else f" to {plan.in_flight_to}"
        return f"{plan.in_flight}{ramp} {unit}{'' if plan.in_flight == 1 and not ramp else 's'} in flight"
    if plan.rate is None:
        return plan.arrival
    ramp = "" if plan.rate_to is None else f" to {plan.rate_to:g}"
    arrival = f"gamma ({plan.burstiness:g})" if plan.arrival == "gamma" else plan.arrival
    return f"{plan.rate:.6g}{ramp} {unit}{'' if plan.rate == 1 and not ramp else 's'}/s, {arrival}"


def gate_rule(gate: Gate) -> str:
    """`ttft.p50: at most 10 % worse than the baseline`."""
    if gate.within:
        good = ", ".join(f"{time} {seconds(limit)}" for time, limit in gate.within.items())
        most = "" if gate.limit is None else f"at least {percent(1 - gate.limit)} of requests"
        return f"{most or f'at most {percent(gate.margin)} below the baseline'}, within {good}"
    if gate.limit is not None and gate.limit_kind == "share":
        return f"never above {percent(gate.limit)} of what there is"
    if gate.limit is not None:
        return f"never above {measured(gate.metric, gate.limit)}"
    if gate.margin is None:
        return "no margin given"
    if gate.margin_kind == "absolute":
        return f"at most {percent(gate.margin).replace(' %', ' percentage points')} above the baseline"
    return f"at most {percent(gate.margin)} worse than the baseline"


def is_gate(finding: Finding, gates: Iterable[Gate]) -> bool:
    """Whether the finding can decide: asked for, or with a margin of its own; no check of the measurement."""
    wanted = {gate.metric for gate in gates}
    known = finding.metric in wanted or finding.metric.removesuffix(".p50") in wanted  # `ttft` is its p50
    return finding.kind != "validity" and (known or finding.margin is not None)


def plain(reason: str) -> str:
    """A sentence of its own, where what only informs is told beside other such things."""
    text = reason.removeprefix("for information: ")
    return text[:1].upper() + text[1:]


def informs(finding: Finding) -> bool:
    """Whether the finding is there to be known, and decides nothing."""
    if finding.kind == "validity":
        return finding.outcome == "pass"
    return finding.margin is None and finding.outcome in ("pass", "no data")


def telling(findings: Iterable[Finding]) -> list[Finding]:
    """Failures, what is open, what passed (comparisons first, those nearest their margin first), information."""

    def key(finding: Finding) -> tuple[int, int, int, float]:
        last = informs(finding)
        watched = finding.outcome == "pass" and finding.kind == "watch"
        return (_RANK[finding.outcome] + 9 * last, finding.kind == "validity", watched, -used(finding))

    return sorted(findings, key=key)


def used(finding: Finding) -> float:
    """The share of the margin that the effect has used up; 0 where either is unknown."""
    if finding.effect is None or finding.margin is None:
        return 0.0
    zero = 1.0 if finding.unit == "ratio" else 0.0
    room = finding.margin - zero
    return (finding.effect - zero) / room if room else 0.0


def falls(finding: Finding) -> bool:
    """Whether less is worse: the margin is a floor."""
    if finding.margin is None:
        return False
    return finding.margin < 1 if finding.unit == "ratio" else finding.metric == "goodput"


def counts(verdict: Verdict) -> dict[Outcome, int]:
    found: dict[Outcome, int] = {"fail": 0, "inconclusive": 0, "no data": 0, "pass": 0}
    for finding in verdict.findings:
        found[finding.outcome] += 1
    return found


def origin(verdict: Verdict) -> str:
    """What is to be known of a recording that another tool made; "" for one of our own."""
    found = (finding.reason for finding in verdict.findings if finding.metric == "validity.imported")
    return one_line("; ".join(dict.fromkeys(reason.removeprefix("for information: ") for reason in found)))
