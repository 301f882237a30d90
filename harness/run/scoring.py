"""The answers of a stage that is over go to the scenario's scorers, and their scores to disk before it is judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.recording import SCHEMAS, PartsTail, StreamWriter, stream_path
from harness.run.put_back import Say
from harness.scenario import Scenario, ScorerConfig
from harness.scoring import Case, Scorer, ScorerFailed, ScorerSpec, make
from harness.types import Prompt, Score

_ASKED = ("stage", "pair_id", "arm", "kind", "text", "tool_calls", "prompt")


class Scoring:
    """Scores each generated answer of baseline and candidate once, by every scorer.

    A scorer that fails leaves a row with its error in `scores`, and the judge then has no data. Raises UsageError in
    `of` where one cannot be made: before anything is started.
    """

    def __init__(
        self, folder: Path, scorers: Mapping[str, tuple[Scorer, bool]], prompts: Sequence[Prompt], say: Say
    ) -> None:
        self._folder, self._scorers, self._prompts, self._say = folder, scorers, prompts, say
        self._done: set[tuple[str, int, int, str]] = set()
        self._failed: set[tuple[str, int]] = set()
        self._writer = StreamWriter(stream_path(folder, "scores"), SCHEMAS["scores"]) if scorers else None

    @classmethod
    def of(cls, scenario: Scenario, folder: Path, prompts: Sequence[Prompt], say: Say) -> Scoring:
        return cls(folder, make_scorers(scenario.scorers), prompts, say)

    def stages(self, indices: Iterable[int]) -> None:
        """Score what these stages have on disk and was not scored yet. Raises RecordingError (disk full)."""
        wanted = set(indices)
        if self._writer is None or not wanted:
            return
        rows = [row for row in _rows(self._folder) if row["stage"] in wanted and row["kind"] == "generated"]
        rows = [row for row in rows if row["arm"] in ("baseline", "candidate") and row["prompt"] >= 0]
        for name, (scorer, expects) in self._scorers.items():
            for stage in sorted(wanted):
                self._score(name, scorer, expects, stage, [row for row in rows if row["stage"] == stage])
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _score(self, name: str, scorer: Scorer, expects: bool, stage: int, rows: Sequence[Mapping[str, Any]]) -> None:
        assert self._writer is not None
        todo = [row for row in rows if (name, stage, row["pair_id"], row["arm"]) not in self._done]
        if expects:
            todo = [row for row in todo if self._prompts[row["prompt"]].expected is not None]
        if not todo or (name, stage) in self._failed:
            return
        self._say(f"scoring {len(todo)} answers by {name}")
        try:
            scores = scorer([self._case(row) for row in todo])
        except ScorerFailed as error:
            self._say(f"the scorer {name} failed: {error}")
            self._failed.add((name, stage))
            self._writer.append(Score(stage, -1, "", name, 0.0, str(error)))
            return
        for row, score in zip(todo, scores, strict=True):
            self._done.add((name, stage, row["pair_id"], row["arm"]))
            self._writer.append(Score(stage, row["pair_id"], row["arm"], name, score))

    def _case(self, row: Mapping[str, Any]) -> Case:
        prompt = self._prompts[row["prompt"]]
        return Case(prompt.text, row["text"], prompt.expected, row["tool_calls"])


def make_scorers(wanted: Mapping[str, ScorerConfig]) -> dict[str, tuple[Scorer, bool]]:
    """By name, with whether it scores only what the prompts expect. Raises UsageError where one cannot be made."""
    specs = [spec_of(name, config) for name, config in wanted.items()]
    return {spec.name: (_made(spec), spec.expects) for spec in specs}


def _made(spec: ScorerSpec) -> Scorer:
    try:
        return make(spec)
    except ScorerFailed as error:
        raise UsageError(f"scorers.{spec.name}: {error}") from error


def _rows(folder: Path) -> list[dict[str, Any]]:
    tail = PartsTail(folder, "outputs", _ASKED)
    try:
        return list(tail.poll().to_pylist())
    finally:
        tail.close()


def spec_of(name: str, config: ScorerConfig) -> ScorerSpec:
    return ScorerSpec(
        name=name,
        use=config.use,
        command=config.command,
        pattern=config.pattern,
        schema=None if config.schema_file is None else Path(config.schema_file),
        timeout_s=config.timeout_s,
        folder=Path(config.folder),
        expects=config.expects,
    )
