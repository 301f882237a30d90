"""One question of a context and a batch, to a version that is loaded alone: what became of it, and what it needed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from harness.errors import CanaryError, Unreachable
from harness.failures import kind_of
from harness.judge import TOO_LONG
from harness.run.operations.course import Place
from harness.run.operations.long_prompts import OUTPUTS, Lengths, counts, measured
from harness.run.operations.long_watch import Readings, Watched, grown, highest, of_devices, polls, seen_in
from harness.run.signals import Interrupted
from harness.scenario import LongArm, LongContext, Writer
from harness.telemetry import HighWater
from harness.tensors import Tensor, encode, shape_of
from harness.triton import Answer, Control, Refused
from harness.types import ModelInfo, TensorSpec

RECOVERY_S = 60.0
"""How long an instance that ran out of memory has until it answers again."""
FULL = 0.95
"""Of the blocks of a KV cache: requests that wait below it wait for something else."""
_LENGTH = re.compile(
    r"(?i)\b(?:exceeds?|exceeding|longer than|larger than|more than)\b[^.;]{0,60}\b(?:context|model length|input length"
    r"|max_model_len|max_seq_len|max_input_len)\b|\bmaximum context length\b"
)
"""How models refuse what is longer than they take: the embedded one, vLLM, TensorRT-LLM."""
Facts = dict[str, Any]


class Asker:
    """Asks one version. `max_batch`: the largest batch of a request; what is more goes as several at the same time."""

    def __init__(self, place: Place, scenario: LongContext, arm: LongArm, info: ModelInfo, readings: Readings) -> None:
        self._place, self._scenario, self._arm, self._readings = place, scenario, arm, readings
        self.info = info
        self._lengths: Lengths | None = None
        self._asked = 0
        self.sent = 0
        """Requests that were begun, also those that failed."""
        self.watched: Watched | None = None
        self.server_pid = scenario.target.server_pid if place.server is None else place.server.pid
        self._instance = (self.server_pid, f"{arm.model}/{arm.version}")

    @property
    def max_batch(self) -> int:
        return self.info.max_batch_size

    def learn(self) -> Facts:
        """How long texts have to be; once."""
        if self._lengths is None:
            self._lengths = measured(lambda texts: self._ask(self._place.control, texts), self._writer())
        found = self._lengths
        return {"added": found.added, "per_word": found.per_word, "counted": found.counted}

    def holds(self, context: int) -> bool:
        """Whether there is room for a word beside the template and the answer."""
        assert self._lengths is not None
        return self._lengths.words(context - self._scenario.max_tokens) >= 1

    def point(self, phase: str, context: int, batch: int, repeat: int = 0) -> Facts:
        """The facts of one. `context`: tokens of prompt and answer together, as the server counts where it does.

        outcome: "ok", or of what kind the failure was; where a batch's requests failed in several ways, an OOM first.
        `recovered_s`: after a failure, how long it took until a short question was answered; None: it was not.
        """
        assert self._lengths is not None
        texts = self._lengths.texts(self._writer(), context - self._scenario.max_tokens, batch)
        mark = self._mark()
        begin_ns, began = self._readings.now_ns(), time.monotonic()
        answers, failures = self._together(texts)
        seconds = time.monotonic() - began
        source = self.watched.source if self.watched else ""
        table = self._readings.between(begin_ns, self._readings.now_ns(), source)
        told = [length for answer in answers for length in self._lengths_of(answer)]
        if prompts := [length for answer in answers for length in counts(answer)]:
            self._lengths = self._lengths.corrected(context - self._scenario.max_tokens, max(prompts))
        facts: Facts = {
            "phase": phase, "repeat": repeat, "context": context, "batch": batch, "seconds": round(seconds, 3),
            "tokens": min(told, default=context),
            "outcome": _worst(failures), "error": failures[0][1] if failures else "", "peak": {}, "polls": 0,
        }  # fmt: skip
        if self.watched is not None:
            watched = self.watched
            peaks = highest(table, watched.source, watched.metric)
            facts["peak"] = {device: peaks[device] for device in watched.capacity if device in peaks}
            if mark is not None and (top := mark.top(watched.metric)) is not None:
                device = self._instance[1]
                facts["peak"][device] = max(top, facts["peak"].get(device, 0.0))
                facts["high_water"] = True
            if not seen_in(watched.source, seconds):
                facts |= {"peak": {}, "unseen": True}
            facts["polls"] = polls(table, watched.source, watched.metric)
            if watched.preallocated and not failures:
                facts["outcome"] = crowded(of_devices(table, watched.capacity), watched.source)
        if failures:
            facts["recovered_s"] = self._recovered()
        return facts

    def _mark(self) -> _Mark | None:
        """Of an instance on this machine without a GPU; None where it cannot be had."""
        pid, instance = self._instance
        if self.watched is None or self.watched.source != "process" or pid is None:
            return None
        water = HighWater(pid, instance)
        return _Mark(water, before) if water.restart() and (before := water.read()) else None

    def refused(self, batch: int) -> bool:
        """Whether Triton takes no request of that batch any more."""
        try:
            self._ask(self._place.control, ["short"] * batch, rows=batch)
        except Refused as error:
            return "batch-size must be" in str(error)
        return False

    def _writer(self) -> Writer:
        """Other words for each question: no cache knows them."""
        self._asked += 1
        return Writer(self._scenario.seed * 100_003 + self._asked)

    def _lengths_of(self, answer: Answer) -> list[int]:
        """Tokens of each sequence, prompt and answer; of an answer whose length is not told, its first one."""
        prompts, most = counts(answer), self._scenario.max_tokens
        made = counts(answer, OUTPUTS) or [1] * len(prompts)
        if self.info.decoupled and prompts:
            # Of each piece of the stream, or of all up to it.
            prompts, made = [max(prompts)], [sum(made) if sum(made) <= most else min(max(made), most)]
        return [prompt + each for prompt, each in zip(prompts, made, strict=False)]

    def _together(self, texts: Sequence[str]) -> tuple[list[Answer], list[tuple[str, str]]]:
        """The answers, and the kind and words of each failure. What interrupts it does not wait for them."""
        parts = [texts] if len(texts) <= max(self.max_batch, 1) else [[text] for text in texts]
        answers: list[Answer] = []
        failures: list[tuple[str, str]] = []
        pool, controls = ThreadPoolExecutor(len(parts)), [self._place.again() for _ in parts]
        try:
            running = [pool.submit(self._ask, *each) for each in zip(controls, parts, strict=True)]
            for future in running:
                try:
                    answers.append(future.result())
                except Interrupted:
                    raise
                except CanaryError as error:
                    failures.append((_kind(error), str(error)))
        finally:
            for control in controls:
                control.close()
            pool.shutdown(wait=False, cancel_futures=True)
        return answers, failures

    def _ask(self, control: Control, texts: Sequence[str], rows: int | None = None) -> Answer:
        rows = rows or len(texts)
        values: dict[str, list[Any]] = {
            "text_input": list(texts),
            "max_tokens": [self._scenario.max_tokens] * rows,
            "stream": [self.info.decoupled],
            "return_num_input_tokens": [True],
            "return_num_output_tokens": [True],
            "sampling_parameters": [json.dumps({"max_tokens": self._scenario.max_tokens, "ignore_eos": True})] * rows,
        }
        self.sent += 1
        tensors = [
            _tensor(spec, self.max_batch, values[spec.name], rows) for spec in self.info.inputs if spec.name in values
        ]
        return control.infer(self._arm.model, self._arm.version, tensors, self._scenario.timeout_s)

    def _recovered(self) -> float | None:
        """Seconds until a short question was answered by the same instance."""
        began = time.monotonic()
        while time.monotonic() - began < RECOVERY_S:
            self._place.check()
            try:
                self._ask(self._place.control, ["short"])
            except Interrupted:
                raise
            except CanaryError:
                time.sleep(0.25)
                continue
            return round(time.monotonic() - began, 3)
        return None


@dataclass(frozen=True)
class _Mark:
    """`before`: what the mark said when it was set anew."""

    water: HighWater
    before: tuple[float, float, float]

    def top(self, metric: str) -> float | None:
        """The peak since then: of what was resident, or (memory.data) allocated: what rose was allocated, too."""
        now = self.water.read()
        if now is None:
            return None
        _, resident, allocated = self.before
        return now[0] if metric == "memory.rss" else allocated + max(now[0] - resident, 0.0)


def _tensor(spec: TensorSpec, max_batch: int, values: list[Any], rows: int) -> Tensor:
    """One value a row, or one for a request that has no batch dimension."""
    shape = shape_of(spec, max_batch)
    if max_batch > 0:
        return Tensor(spec.name, spec.datatype, (rows, *shape[1:]), encode(spec.datatype, (values * rows)[:rows]))
    return Tensor(spec.name, spec.datatype, shape, encode(spec.datatype, values[:1]))


def _kind(error: CanaryError) -> str:
    """Our own patience has words of its own, which no program's are."""
    said = str(error)
    kind: str = kind_of(said)
    if kind != "other":
        return kind
    if isinstance(error, Unreachable):
        return "server died"
    if isinstance(error, Refused) and error.unfinished:
        return "time-out"
    return TOO_LONG if _LENGTH.search(said) else kind


def _worst(failures: Sequence[tuple[str, str]]) -> str:
    kinds = [kind for kind, _ in failures]
    return "out of memory" if "out of memory" in kinds else kinds[0] if kinds else "ok"


def crowded(table: Any, source: str) -> str:
    """An engine that took its memory at the load does not fail: it preempts (pauses) sequences, or lets them wait."""
    paused = highest(table, source, "requests.paused")
    if grown(table, source, "requests.preempted") or max(paused.values(), default=0.0) > 0:
        return "preempted"
    waiting = highest(table, source, "requests.waiting")
    full = max(highest(table, source, "kv_cache.usage").values(), default=0.0) >= FULL
    return "queued" if full and max(waiting.values(), default=0.0) > 0 else "ok"
