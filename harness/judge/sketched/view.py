"""A stage of which only counts are known, in place of its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from harness.judge.columns import ARMS, BASELINE, CANCELLED, CANDIDATE, OK, Columns
from harness.judge.evidence import Evidence
from harness.judge.metrics import default_gates, normalise
from harness.judge.sketched.counts import SCORING, StageCounts
from harness.judge.view import StageView, moment, record_of, role_of
from harness.types import Gate


@dataclass(frozen=True)
class CountedEvidence(Evidence):
    """`counts`: by stage. `told`: where they are from, for a finding that informs. `samples` has no row."""

    counts: dict[int, StageCounts] = field(default_factory=dict)
    told: str = ""

    @cached_property
    def rules(self) -> tuple[Gate, ...]:
        return self.rules_of(list(self.counts.values()))

    def rules_of(self, stages: Sequence[StageCounts]) -> tuple[Gate, ...]:
        """The gates as given, or the default ones for what was seen in those stages, as `Evidence.rules`."""
        if self.gates:
            return normalise(self.gates)

        def has(metric: str) -> bool:
            """Whether each arm that answered has it."""
            return all(any(counts.known(metric, arm) for counts in stages) for arm, n in enumerate(answered) if n > 0)

        answered = [sum(counts.answered(arm) for counts in stages) for arm in (BASELINE, CANDIDATE)]
        long = [sum(counts.sum("osl", arm) for counts in stages) > 0 for arm in range(len(ARMS))]
        if has("response_time"):
            return default_gates(token_model=any(long), requests=min(answered))
        first = has("ttft")
        tokens = first and all(long[arm] for arm, n in enumerate(answered) if n > 0)
        return default_gates(token_model=tokens, requests=min(answered), due=False, first=first)


@dataclass(frozen=True)
class CountedView(StageView):
    """Nobody may ask it for single requests (`samples`, `arms`, ...): they are not there."""

    counts: StageCounts = field(kw_only=True)

    @classmethod
    def at_end(cls, evidence: CountedEvidence, index: int) -> CountedView:
        """Raises UsageError where no stage has that index."""
        records, record = record_of(evidence, index)
        horizon = record.begin_ns + round(record.plan.duration_s * 1e9)
        cut, final = moment(record, horizon, None)
        counts = evidence.counts[index]
        passed = ((counts.last_ns if cut is None else cut) - record.begin_ns) / max(horizon - record.begin_ns, 1)
        role, alpha = role_of(records, record)
        return cls(
            evidence=evidence,
            record=record,
            so_far=evidence.samples,
            outputs=tuple(a for a in evidence.outputs if a.stage <= index),
            until_ns=cut if cut is not None else record.end_ns,
            final=final,
            fraction=1.0 if final else min(max(passed, 1e-3), 1.0),
            role=role,
            alpha=alpha,
            counts=counts,
        )

    def stages(self, *, so_far: bool = False) -> list[StageCounts]:
        """This one, or all up to it that are not left out (see `StageView.so_far`)."""
        if not so_far:
            return [self.counts]
        assert isinstance(self.evidence, CountedEvidence)
        apart = {r.plan.index for r in self.evidence.stages if self.sets_apart(r)}
        known = sorted(self.evidence.counts.items())
        return [counts for index, counts in known if index <= self.index and index not in apart]

    @property
    def samples(self) -> Columns:
        raise AssertionError("a stage of which only counts are known was asked for its requests")

    @cached_property
    def answered(self) -> tuple[int, int]:
        return self.counts.answered(BASELINE), self.counts.answered(CANDIDATE)

    def asked(self, arm: int) -> int:
        return self.counts.requests(arm)

    def failed(self, arm: int) -> tuple[int, int]:
        return self.counts.failed(arm), self.counts.timeouts(arm)

    @cached_property
    def total(self) -> int:
        return int(self.counts.statuses.sum())

    def called(self, error: str) -> int:
        return self.counts.errors.get(error, 0)

    @cached_property
    def sent_by(self) -> dict[int, int]:
        return {worker: sender.requests for worker, sender in self.counts.senders.items()}

    def tokens(self, arm: int) -> tuple[int, int]:
        return self.counts.known("osl", arm), round(self.counts.sum("osl", arm))

    def scored(self, arm: int) -> tuple[int, int]:
        ended = self.counts.requests(arm, SCORING) - int(self.counts.statuses[arm, SCORING, CANCELLED].sum())
        return ended, ended - int(self.counts.statuses[arm, SCORING, OK].sum())

    @cached_property
    def last_ns(self) -> int | None:
        return self.counts.last_ns if self.total else None
