"""One planned request, from due to recorded: out to its arms, in again, read when there is time, scored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from harness.load.engine.dispatch import Over, Route
from harness.load.engine.exchange import Exchange, Sender
from harness.load.engine.loop import Loop
from harness.load.outcome import GENERATOR
from harness.load.payload import can_compare, can_score, generation, scoring
from harness.load.recorder import Recorder
from harness.load.reply import Reader, Reply
from harness.load.spec import LoadSpec, host_of, wire_of
from harness.load.template import Template, request_id, unique_key
from harness.types import ArmName, Output, PlannedRequest, Sample, StagePlan

Observe = Callable[[str, str, float, str], None]
"""Told of every sample: wire, name, response time in ms, error class ("" if none). For Locust's own statistics."""

# Requests in flight to each arm while it is warmed.
FEW = 4
# So many answers may wait before they are read whether or not there is time.
TOO_MANY = 256


class Reference(NamedTuple):
    """The baseline's answer to a prompt in a paired stage: what the candidate is asked to score later."""

    pair_id: int
    prompt: int
    token_ids: Sequence[int]


class Flight:
    """A request, or a pair, on its way. `over` is None once it was called."""

    __slots__ = ("assignment", "due_ns", "exchanges", "left", "over", "pair_id", "prompt", "said", "stage", "unit")

    def __init__(self, stage: StagePlan, pair_id: int, prompt: int, due_ns: int, assignment: str, over: Over) -> None:
        self.stage, self.pair_id, self.prompt, self.due_ns = stage, pair_id, prompt, due_ns
        self.assignment = assignment
        self.over: Over | None = over
        self.exchanges: dict[ArmName, Exchange] = {}
        self.left = 0
        self.unit = ""
        self.said: Sequence[int] = ()
        """Of requests that left together: the tokens of the answer."""


class Carrier:
    """Carries out planned requests. Payloads are prepared here, once: UsageError if one cannot be made."""

    def __init__(
        self, spec: LoadSpec, senders: Mapping[ArmName, Sender], recorder: Recorder, route: Route, loop: Loop,
        observe: Observe,
    ) -> None:  # fmt: skip
        self._spec, self._senders, self._recorder, self._route, self._loop = spec, senders, recorder, route, loop
        self._observe = observe
        self._wires = {arm: wire_of(spec.arms[arm], spec.models[arm]) for arm in spec.arms}
        self._count = count = spec.count()
        self._readers = {
            arm: Reader(
                spec.models[arm],
                wire,
                digests=spec.keeps_outputs,
                tokens=spec.keeps_texts,
                count=count,
                vectors=spec.vectors,
            )
            for arm, wire in self._wires.items()
        }
        self._places = {name: (host_of(arm.url), arm.model) for name, arm in spec.arms.items()}
        self._references: dict[int, Reference] = {}
        apis = {arm: (model, spec.arms[arm].api) for arm, model in spec.models.items() if arm in spec.arms}
        self._routed = spec.routed
        self._scores = spec.logprobs_k > 0 and all(can_score(*each) for arm, each in apis.items() if arm != "unknown")
        self._kept = {
            arm
            for arm, each in apis.items()
            if spec.keeps_outputs and (spec.texts or can_compare(*each) or not each[0].is_token_model)
        }
        self.prompt_tokens: dict[ArmName, int] = {}
        self.cached_tokens: dict[ArmName, int] = {}
        """So far, of answers whose engine says how much of the prompt came from a cache."""
        self.counted: dict[ArmName, int] = {}
        """Answers so far whose tokens were counted here, because the engine did not."""
        # An answer of which only status and version are looked at costs less to read than to put off.
        self._quick = not spec.keeps_outputs and not any(m.is_token_model for m in spec.models.values())
        self._unique = spec.cache == "unique"
        self._templates: dict[ArmName, list[Template]] = {
            arm: [sender.prepare(generation(spec, arm, number)) for number in range(spec.payloads)]
            for arm, sender in senders.items()
        }
        self._finished: deque[Flight] = deque()

    @property
    def backlog(self) -> int:
        """Answers that nobody has read yet."""
        return len(self._finished)

    def carry(self, stage: StagePlan, request: PlannedRequest, due_ns: int, over: Over) -> None:
        """`over` is called once everything that belongs to the request is over."""
        if stage.routed:
            self._launch(
                Flight(stage, request.pair_id, request.prompt, due_ns, "observed", over),
                {"unknown": self._templates["unknown"][request.prompt]},
            )
            return
        arms = self._route.arms(request.arms)
        if stage.together > 1 and len(arms) == stage.together:
            self._beside_itself(stage, request, due_ns, over)
            return
        flight = Flight(stage, request.pair_id, request.prompt, due_ns, request.assignment, over)
        flight.unit = request.unit
        templates = self._templates
        self._launch(flight, {arm: templates[arm][request.prompt] for arm in arms})

    def _beside_itself(self, stage: StagePlan, request: PlannedRequest, due_ns: int, over: Over) -> None:
        """The same prompt several times at once to the one arm, and over once all are over. Each is a request of its
        own number; where a pair would be scored afterwards, so are they: the server gets as much to do.
        """
        refused: list[bool] = []

        def ended(turned_away: bool) -> None:
            refused.append(turned_away)
            if len(refused) < stage.together:
                return
            answered = [flight for flight in flights if flight.said]
            if self._scores and len(answered) == stage.together:
                self._score_themselves(answered, lambda: over(False))
            else:
                over(all(refused))

        flights = [
            Flight(stage, request.pair_id + number, request.prompt, due_ns, "plan", ended)
            for number in range(stage.together)
        ]
        for flight, arm in zip(flights, request.arms, strict=True):
            self._launch(flight, {arm: self._templates[arm][request.prompt]})

    def _score_themselves(self, flights: Sequence[Flight], over: Callable[[], None]) -> None:
        left = len(flights)

        def ended(_: bool) -> None:
            nonlocal left
            left -= 1
            if not left:
                over()

        now_ns = self._loop.now_ns()
        for flight in flights:
            arm = next(iter(flight.exchanges))
            scored = Flight(flight.stage, flight.pair_id, flight.prompt, now_ns, "score", ended)
            template = self._senders[arm].prepare(scoring(self._spec, arm, flight.prompt, flight.said))
            self._launch(scored, {arm: template})

    def warm(self, over: Callable[[], None]) -> None:
        """This worker's share of the payloads, each once to every arm, a few at a time, unrecorded; then `over`."""
        mine = slice(self._spec.worker, None, self._spec.workers)
        waiting = deque((arm, template) for arm, every in self._templates.items() for template in every[mine])
        flying = 0

        def landed(_: Exchange) -> None:
            nonlocal flying
            flying -= 1
            more()

        def more() -> None:
            nonlocal flying
            while waiting and flying < FEW:
                flying += 1
                arm, template = waiting.popleft()
                self._recorder.begun(arm)
                self._senders[arm].send(template, request_id(0, arm).encode(), b"", Exchange(landed))
            if not waiting and not flying:
                over()

        more()

    def close(self) -> None:
        """Reads what is there, and asks for nothing more."""
        self._scores = False
        self.drain()

    def drain(self) -> None:
        """Reads every answer that is there."""
        while self._finished:
            self._read(self._finished.popleft())

    def _launch(self, flight: Flight, templates: Mapping[ArmName, Template]) -> None:
        """To all arms at the same time, the first one first."""
        score = flight.assignment == "score"
        pair_id = flight.pair_id
        key = unique_key(self._spec.nonce, pair_id).encode() if self._unique else b""
        flight.left = len(templates)
        for arm in templates:
            self._recorder.begun(arm)
        for arm, template in templates.items():
            exchange = flight.exchanges[arm] = Exchange(self._landed, flight)
            self._senders[arm].send(template, request_id(pair_id, arm, score=score).encode(), key, exchange)

    def _landed(self, exchange: Exchange) -> None:
        flight: Flight = exchange.owner
        exchange.owner = None
        flight.left -= 1
        if flight.left:
            return
        if self._quick:
            self._read(flight)
            return
        if not self._finished:
            self._loop.when_idle(self._read_one)
        self._finished.append(flight)
        if len(self._finished) > TOO_MANY:
            self._read(self._finished.popleft())
        # What follows may ask for everything that is finished: this one is among it.
        if not (self._scores and flight.assignment != "score"):
            self._end(flight)

    def _end(self, flight: Flight) -> None:
        if flight.over:
            over, flight.over = flight.over, None
            over(all(_turned_away(exchange) for exchange in flight.exchanges.values()))

    def _read_one(self) -> bool:
        if self._finished:
            self._read(self._finished.popleft())
        return bool(self._finished)

    def _read(self, flight: Flight) -> None:
        replies = dict(self._record(flight, lane, exchange) for lane, exchange in flight.exchanges.items())
        kind = "scored" if flight.assignment == "score" else "generated"
        for arm, reply in replies.items():
            if reply.failure is None and (kind == "scored" or arm in self._kept):
                self._recorder.output(_output(flight, arm, kind, reply))
        if flight.over and not (self._scores and self._score(flight, replies)):
            self._end(flight)

    def _record(self, flight: Flight, lane: ArmName, exchange: Exchange) -> tuple[ArmName, Reply]:
        """With the arm that had it: of a request through an ingress only its answer says which."""
        reply = self._readers[lane].read(exchange)
        arm = lane
        if lane == "unknown" and self._routed is not None:
            arm = self._routed.arm(exchange.fields, reply.version)
        failure = reply.failure
        status, error, code = (failure.status, failure.error, failure.code) if failure else ("ok", "", "")
        score, due_ns = flight.assignment == "score", flight.due_ns
        isl = reply.isl if reply.isl >= 0 or self._count is None else self._asked(flight, lane)
        server, model = self._places[lane]
        if flight.unit and self._routed is not None:
            # Not every server has a version of its own: what the ingress calls the arm is the other thing that tells.
            server = exchange.fields.get(self._routed.header, server)
        self._recorder.sample(
            Sample(
                arm, flight.stage.index, flight.pair_id, request_id(flight.pair_id, lane, score=score), flight.unit,
                flight.assignment, due_ns, exchange.sent_ns, reply.first_ns, exchange.done_ns, status, error, code,
                reply.finish_reason, server, model, reply.version, isl, reply.osl, self._spec.worker,
            )
        )  # fmt: skip
        if not score and reply.chunks_ns:
            self._recorder.chunks(flight.pair_id, arm, reply.chunks_ns)
        if reply.cached_tokens >= 0 and reply.isl >= 0:
            self.prompt_tokens[arm] = self.prompt_tokens.get(arm, 0) + reply.isl
            self.cached_tokens[arm] = self.cached_tokens.get(arm, 0) + reply.cached_tokens
        if reply.counted:
            self.counted[arm] = self.counted.get(arm, 0) + 1
        self._observe(self._wires[lane], f"{arm} {flight.assignment}", (exchange.done_ns - due_ns) / 1e6, error)
        return arm, reply

    def _asked(self, flight: Flight, arm: ArmName) -> int:
        """Tokens of the prompt's text and of the key in front of it; -1 where nobody counted, or none is asked."""
        talks = self._spec.models[arm].is_token_model or self._spec.arms[arm].api == "openai"
        tokens = self._spec.prompts[flight.prompt].tokens if talks and self._spec.prompts else None
        if tokens is None or self._count is None:
            return -1
        return tokens + (self._count(unique_key(self._spec.nonce, flight.pair_id)) if self._unique else 0)

    def _score(self, flight: Flight, replies: Mapping[ArmName, Reply]) -> bool:
        """Teacher forcing: what each arm thinks of the baseline's own words, token by token. False: nothing to ask."""
        if any(reply.failure is not None for reply in replies.values()):
            return False
        if flight.stage.together > 1:
            flight.said = next(iter(replies.values())).token_ids
            return False
        if flight.stage.mode == "paired" and {"baseline", "candidate"} <= replies.keys():
            reference = Reference(flight.pair_id, flight.prompt, replies["baseline"].token_ids)
            self._references[flight.prompt] = reference
        elif flight.stage.mode == "split" and "candidate" in replies and self._references:
            reference = self._reference(flight)
        else:
            return False
        # A rollback that came while the answers were under way keeps the candidate out of this, too.
        arms = [arm for arm in replies if arm in self._route.arms((arm,))]
        if not arms:
            return False
        over, flight.over = flight.over, None
        assert over
        # A scoring request is due at once: its times do not count.
        now_ns = self._loop.now_ns()
        scored = Flight(flight.stage, reference.pair_id, reference.prompt, now_ns, "score", over)
        self._launch(
            scored,
            {
                arm: self._senders[arm].prepare(scoring(self._spec, arm, reference.prompt, reference.token_ids))
                for arm in arms
            },
        )
        return True

    def _reference(self, flight: Flight) -> Reference:
        """What the baseline said to the same prompt; to another one if it was never asked this."""
        known = list(self._references.values())
        return self._references.get(flight.prompt, known[flight.pair_id % len(known)])


def _turned_away(exchange: Exchange) -> bool:
    """At once, without an answer, or by this machine: a closed loop that took the next request would spin."""
    failure = exchange.failure
    if failure is None:
        return exchange.status == 503
    if failure.status == "refused" or failure.error == GENERATOR:
        return True
    return failure.status == "error" and not exchange.status and not exchange.frames


def _output(flight: Flight, arm: str, kind: str, reply: Reply) -> Output:
    known = reply.logprob is not None and reply.logprob_tokens > 0
    return Output(
        flight.stage.index, flight.pair_id, arm, kind, reply.text, reply.digest, reply.finish_reason, reply.token_ids,
        reply.k, reply.topk_ids, reply.topk_logprobs, flight.prompt, (reply.logprob or 0.0) if known else 0.0,
        reply.logprob_tokens if known else -1, reply.tool_calls, reply.shape, reply.bad, reply.vector,
    )  # fmt: skip
