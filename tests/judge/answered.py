"""A paired stage of answers without log-probabilities: what scores, reasons to end and vectors are judged from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from harness.judge import Evidence
from harness.recording.schema import OUTPUTS, SCORES
from harness.types import Gate, Output, Score, StageRecord
from tests.judge.worlds import VERSIONS, S, plan, sample, table

ARMS = ("baseline", "candidate")
Make = Callable[[str, int, int], Output]
"""The output of an arm to a prompt, the number-th time."""


def output(arm: str, prompt: int, number: int = 0, **more: object) -> Output:
    plain = Output(0, 0, arm, "generated", f"answer {prompt}", "", "stop", [], 0, [], [], prompt)
    return plain._replace(**more)  # type: ignore[arg-type]


def world(
    make: Make,
    prompts: int,
    gates: Sequence[Gate],
    *,
    times: int = 1,
    scores: Mapping[str, Callable[[str, int], float]] | None = None,
    failed: Mapping[str, str] | None = None,
    seed: int = 0,
    cut_ns: int | None = None,
) -> Evidence:
    """Each prompt `times` times, a pair a second. `scores`: by scorer, of an arm and a prompt; `failed`: errors."""
    samples, outputs, marks = [], [], []
    for number in range(prompts * times):
        prompt = number % prompts
        for arm in ARMS:
            samples.append(sample(arm, number, number, 0.4, osl=4, first_ns=round((number + 0.1) * S)))
            outputs.append(make(arm, prompt, number // prompts)._replace(pair_id=number, stage=0))
            marks += [Score(0, number, arm, name, of(arm, prompt)) for name, of in (scores or {}).items()]
    marks += [Score(0, -1, "", name, 0.0, error) for name, error in (failed or {}).items()]
    seconds = float(prompts * times)
    end = round(seconds * S)
    record = StageRecord(plan(0, "paired", seconds, rate=1.0), 0, end_ns=end, decided_ns=cut_ns)
    return Evidence.from_tables(
        table(samples), table(outputs, OUTPUTS), stages=[record], gates=gates, seed=seed, versions=VERSIONS, planned=1,
        scores=table(marks, SCORES) if marks else pa.table([[] for _ in SCORES], schema=SCORES),
    )  # fmt: skip
