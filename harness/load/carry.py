"""One planned request, from due to recorded: send to its arms at the same time, read, record, and score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from harness.load.dispatch import Route
from harness.load.payload import can_compare, can_score, generation, scoring
from harness.load.recorder import Recorder
from harness.load.reply import Exchange, Reader, Reply
from harness.load.spec import LoadSpec, host_of, wire_of
from harness.tensors import Tensor
from harness.types import ArmName, Output, PlannedRequest, Sample, StagePlan

Observe = Callable[[Sample, str], None]
"""Told of every sample, with its wire: how Locust's own statistics come to know."""


class Sender(Protocol):
    """One arm's wire. `prepare` may be slow, `send` may not; a failed request comes back as an Exchange."""

    def prepare(self, tensors: Sequence[Tensor]) -> Any: ...

    def send(self, payload: Any, request_id: str, timeout_s: float) -> Exchange: ...

    def connect(self, timeout_s: float) -> None:
        """Try to be connected before the first request; no harm if that fails."""

    def cancel(self) -> None:
        """End every request in flight as cancelled."""

    def close(self) -> None: ...


class Together(Protocol):
    """Runs the functions at the same time, the first one first, and returns their results in order."""

    def __call__(self, functions: Sequence[Callable[[], Exchange]]) -> list[Exchange]: ...


class Reference(NamedTuple):
    """The baseline's answer to a prompt in a paired stage: what the candidate is asked to score later."""

    pair_id: int
    prompt: int
    token_ids: list[int]


class Carrier:
    """Carries out planned requests. Payloads are prepared here, once.

    Raises UsageError if a payload cannot be made, RecordingError never (rows are buffered).
    """

    def __init__(
        self,
        spec: LoadSpec,
        senders: Mapping[ArmName, Sender],
        recorder: Recorder,
        route: Route,
        together: Together,
        observe: Observe,
    ) -> None:
        self._spec = spec
        self._senders = senders
        self._recorder = recorder
        self._route = route
        self._together = together
        self._observe = observe
        self._wires = {arm: wire_of(spec.arms[arm], spec.models[arm]) for arm in spec.arms}
        self._readers = {
            arm: Reader(spec.models[arm], self._wires[arm], digests=spec.keeps_outputs) for arm in spec.arms
        }
        self._servers = {arm: host_of(spec.arms[arm].url) for arm in spec.arms}
        self._references: dict[int, Reference] = {}
        self._scores = spec.logprobs_k > 0 and all(can_score(model) for model in spec.models.values())
        self._kept = {
            arm for arm, m in spec.models.items() if spec.keeps_outputs and (can_compare(m) or not m.is_token_model)
        }
        self._payloads = {
            arm: [sender.prepare(generation(spec, arm, prompt)) for prompt in range(spec.payloads)]
            for arm, sender in senders.items()
        }

    def carry(self, stage: StagePlan, request: PlannedRequest, due_ns: int) -> bool:
        """Returns when everything that belongs to the request is over; True if every arm refused it."""
        arms = self._route.arms(request.arms)
        replies = self._send(
            stage, request.pair_id, due_ns, "plan", {arm: self._payloads[arm][request.prompt] for arm in arms}
        )
        for arm, reply in replies.items():
            if arm in self._kept and reply.failure is None:
                self._recorder.output(_output(stage.index, request.pair_id, arm, "generated", reply))
        if self._scores:
            self._score(stage, request, replies)
        return all(reply.failure is not None and reply.failure.status == "refused" for reply in replies.values())

    def _score(self, stage: StagePlan, request: PlannedRequest, replies: Mapping[ArmName, Reply]) -> None:
        """Teacher forcing: what each arm thinks of the baseline's own words, token by token."""
        if any(reply.failure is not None for reply in replies.values()):
            return
        if stage.mode == "paired" and {"baseline", "candidate"} <= replies.keys():
            reference = Reference(request.pair_id, request.prompt, replies["baseline"].token_ids)
            self._references[request.prompt] = reference
        elif stage.mode == "split" and "candidate" in replies and self._references:
            reference = self._reference(request)
        else:
            return
        # A rollback that came while the answers were under way keeps the candidate out of this, too.
        arms = [arm for arm in replies if arm in self._route.arms(request.arms)]
        payloads = {
            arm: self._senders[arm].prepare(scoring(self._spec, arm, reference.prompt, reference.token_ids))
            for arm in arms
        }
        for arm, reply in self._send(stage, reference.pair_id, -1, "score", payloads).items():
            if reply.failure is None:
                self._recorder.output(_output(stage.index, reference.pair_id, arm, "scored", reply))

    def _reference(self, request: PlannedRequest) -> Reference:
        """What the baseline said to the same prompt; to another one if it was never asked this."""
        known = list(self._references.values())
        return self._references.get(request.prompt, known[request.pair_id % len(known)])

    def _send(
        self, stage: StagePlan, pair_id: int, due_ns: int, assignment: str, payloads: Mapping[ArmName, Any]
    ) -> dict[ArmName, Reply]:
        """To all arms at the same time. Answers are read once all are there, so that reading delays none."""
        suffix = "-score" if assignment == "score" else ""
        ids = {arm: f"{pair_id}-{arm[0]}{suffix}" for arm in payloads}

        def call(arm: ArmName) -> Callable[[], Exchange]:
            return lambda: self._senders[arm].send(payloads[arm], ids[arm], self._spec.timeout_s)

        for arm in payloads:
            self._recorder.begun(arm)

        exchanges = dict(zip(payloads, self._together([call(arm) for arm in payloads]), strict=True))
        replies: dict[ArmName, Reply] = {}
        for arm, exchange in exchanges.items():
            reply = self._readers[arm].read(exchange)
            replies[arm] = reply
            failure = reply.failure
            sample = Sample(
                arm=arm,
                stage=stage.index,
                pair_id=pair_id,
                request_id=ids[arm],
                unit="",
                assignment=assignment,
                # A scoring request is due when it is sent: its times do not count.
                due_ns=due_ns if due_ns >= 0 else exchange.sent_ns,
                sent_ns=exchange.sent_ns,
                first_ns=reply.first_ns,
                done_ns=exchange.done_ns,
                status=failure.status if failure else "ok",
                error=failure.error if failure else "",
                code=failure.code if failure else "",
                finish_reason=reply.finish_reason,
                server=self._servers[arm],
                model=self._spec.arms[arm].model,
                version=reply.version,
                isl=reply.isl,
                osl=reply.osl,
                worker=self._spec.worker,
            )
            self._recorder.sample(sample)
            self._observe(sample, self._wires[arm])
            if assignment == "plan":
                self._recorder.chunks(pair_id, arm, reply.chunks_ns)
        return replies


def _output(stage: int, pair_id: int, arm: str, kind: str, reply: Reply) -> Output:
    return Output(
        stage,
        pair_id,
        arm,
        kind,
        reply.text,
        reply.digest,
        reply.finish_reason,
        reply.token_ids,
        reply.k,
        reply.topk_ids,
        reply.topk_logprobs,
    )
