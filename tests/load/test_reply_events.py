"""Server-sent events and what generate and OpenAI's api say in them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from harness.load.outcome import TIMEOUT
from harness.load.reply import Reader, Reply
from harness.load.reply.sse import events
from harness.types import ModelInfo, Wire
from tests.load.carrying import exchange
from tests.load.conftest import SMOLLM2, TINY
from tests.load.openai_front_end import completion, events_of
from tests.load.test_reply import UMLAUT


def cut(body: bytes, *at: int) -> list[tuple[int, bytes]]:
    """The body in pieces that end at the given places; the number of a piece is its time."""
    ends = [*sorted(at), len(body)]
    return [(number, body[a:b]) for number, (a, b) in enumerate(zip([0, *ends], ends, strict=False))]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_an_events_time_is_that_of_the_piece_that_completed_it(end: bytes) -> None:
    body = b"data: one" + end + "data: zwölf".encode() + end + b"data: 3" + end
    first = body.index(end) + len(end)
    second = body.index(end, first) + len(end)
    expected = [b"one", "zwölf".encode(), b"3"]
    assert list(events(cut(body))) == [(0, data) for data in expected]
    for at in range(1, len(body)):
        times = [0 if stop <= at else 1 for stop in (first, second, len(body))]
        assert list(events(cut(body, at))) == list(zip(times, expected, strict=True)), at
    assert [data for _, data in events((n, body[n : n + 1]) for n in range(len(body)))] == expected


def test_any_cuts_give_the_same_events() -> None:
    rng = random.Random(1)
    wanted = [f"text {number} {'ü' * rng.randrange(9)}".encode() for number in range(50)]
    body = b"".join(b"data: " + data + rng.choice((b"\n\n", b"\r\n\r\n")) for data in wanted)
    for _ in range(200):
        pieces = cut(body, *(rng.randrange(len(body)) for _ in range(rng.randrange(60))))
        assert [data for _, data in events(pieces)] == wanted


def test_comments_other_fields_and_lines_without_a_space_are_understood() -> None:
    body = b": keep-alive\n\nevent: token\nid: 5\ndata:a\ndata: b\n\n\n\nretry: 3\n\ndata: c"
    assert list(events([(7, body)])) == [(7, b"a\nb"), (7, b"c")]


def read(wire: Wire, pieces: list[tuple[int, bytes]], model: ModelInfo = SMOLLM2, **options: Any) -> Reply:
    options = {"digests": False, "tokens": True, **options}
    return Reader(model, wire, **options).read(exchange(*pieces, status=200))


def said(text: str, *ids: int, reason: str = "", **more: Any) -> dict[str, Any]:
    """A generated chunk as Triton writes it: a single element stands without its list."""
    return {
        "finish_reason": reason,
        "input_tokens": 37,
        "model_name": "smollm2",
        "model_version": "2",
        "text_output": text,
        "token_ids": ids[0] if len(ids) == 1 else list(ids),
        **more,
    }


def as_events(*answers: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(answer, ensure_ascii=False).encode() + b"\n\n" for answer in answers)


GENERATED = as_events(
    said("", topk_ids=[], topk_logprobs=[]),
    said("Grü", 5, topk_ids=[5, 9], topk_logprobs=[-0.5, -1.5]),
    said("ße", 6, 7, reason="stop", topk_ids=[6, 9, 7, 9], topk_logprobs=[-0.5, -1.5, -0.25, -2]),
)


def test_a_generated_stream() -> None:
    # The second event ends in the middle of its ü, and comes with the rest of it.
    at = GENERATED.index("ü".encode()) + 1
    reply = read("generate-stream", cut(GENERATED, at))
    assert reply.failure is None
    assert (reply.text, reply.token_ids, reply.osl, reply.isl) == ("Grüße", [5, 6, 7], 3, 37)
    assert (reply.first_ns, reply.chunks_ns) == (1, [1, 1])
    assert (reply.finish_reason, reply.version) == ("stop", "2")
    assert (reply.k, reply.topk_ids, reply.topk_logprobs[-1]) == (2, [5, 9, 6, 9, 7, 9], -2)
    counted = read("generate-stream", cut(GENERATED, at), tokens=False)
    assert (counted.osl, counted.chunks_ns, counted.text, counted.token_ids) == (3, [1, 1], "", [])


def test_a_generated_answer_in_one() -> None:
    body = json.dumps(said("Hello", 1, 2, reason="length")).encode()
    reply = read("generate", [(3, body[:9]), (8, body[9:])])
    assert (reply.text, reply.osl, reply.first_ns, reply.chunks_ns) == ("Hello", 2, 8, [])


def test_an_error_in_a_generated_stream_keeps_what_came_before() -> None:
    reply = read("generate-stream", [(1, as_events(said("a", 5))), (2, as_events({"error": "CUDA out of memory"}))])
    assert reply.failure is not None
    assert (reply.failure.status, reply.failure.code) == ("oom", "STREAM")
    assert (reply.osl, reply.text, reply.first_ns) == (1, "a", 1)


def test_a_generated_event_cut_short_is_a_failure_and_one_without_an_empty_line_is_not() -> None:
    short = read("generate-stream", cut(GENERATED[:-20]))
    assert short.failure is not None
    assert (short.failure.error, short.osl) == ("undecodable", 1)
    assert read("generate-stream", cut(GENERATED[:-2])).failure is None


def test_a_timeout_keeps_what_came_before() -> None:
    answered = exchange(*cut(GENERATED[:-20]), status=200, failure=TIMEOUT)
    reply = Reader(SMOLLM2, "generate-stream", digests=False, tokens=True).read(answered)
    assert (reply.failure, reply.osl, reply.text) == (TIMEOUT, 1, "Grü")


def test_other_models_answers_have_digests_over_generate() -> None:
    answers = [{"model_name": "tiny", "model_version": "1", "OUTPUT": [1.0, last]} for last in (2.0, 2.5)]
    one, other = (read("generate", [(4, json.dumps(answer).encode())], TINY, digests=True) for answer in answers)
    again = read("generate", [(9, json.dumps({**answers[0], "model_version": "2"}).encode())], TINY, digests=True)
    assert (one.first_ns, one.version, one.failure) == (4, "1", None)
    assert one.digest == again.digest != other.digest
    assert read("generate", [(4, json.dumps(answers[0]).encode())], TINY).digest == ""
    streamed = read("generate-stream", [(4, as_events(*answers))], replace(TINY, decoupled=True))
    assert streamed.chunks_ns == [4, 4]


@pytest.mark.parametrize("chat", [True, False])
def test_an_openai_stream(chat: bool) -> None:
    body = events_of(["", "Grü", "ße"], chat=chat, reason="length", usage={"prompt_tokens": 37, "completion_tokens": 2})
    pieces = [(number, piece) for number, piece in enumerate(body)]
    reply = read("openai-stream", pieces)
    assert reply.failure is None
    # A chat begins with a chunk that says the role and nothing else.
    first = 2 if chat else 1
    assert (reply.first_ns, reply.chunks_ns) == (first, [first, first + 1])
    assert (reply.text, reply.isl, reply.osl, reply.finish_reason) == ("Grüße", 37, 2, "length")
    assert reply.cached_tokens == -1
    assert read("openai-stream", pieces, tokens=False).text == ""


@pytest.mark.parametrize("chat", [True, False])
def test_an_openai_answer_in_one(chat: bool) -> None:
    usage = {"prompt_tokens": 37, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 16}}
    body = json.dumps(completion("Grüße", chat=chat, reason="stop", usage=usage)).encode()
    reply = read("openai", [(6, body)])
    assert (reply.text, reply.first_ns, reply.chunks_ns) == ("Grüße", 6, [])
    assert (reply.isl, reply.osl, reply.cached_tokens, reply.finish_reason) == (37, 2, 16, "stop")
    nothing = json.dumps(completion("", chat=chat, reason="stop", usage=None)).encode()
    assert getattr(read("openai", [(6, nothing)]).failure, "error", "") == "empty"


def delta(**said: Any) -> bytes:
    return as_events({"choices": [{"index": 0, "delta": said, "finish_reason": None}]})


def test_reasoning_and_calls_of_tools_are_tokens_and_no_text() -> None:
    done = b"data: [DONE]\n\n"
    for first in (delta(reasoning_content="hm"), delta(reasoning="hm"), delta(tool_calls=[{"index": 0}])):
        reply = read(
            "openai-stream", [(1, delta(role="assistant", content="")), (2, first), (3, delta(content="a")), (4, done)]
        )
        assert (reply.failure, reply.first_ns, reply.chunks_ns, reply.text) == (None, 2, [2, 3], "a")


def test_an_openai_stream_that_just_ends_was_cut_short() -> None:
    whole = events_of(["a", "b"], chat=True, reason="stop", usage=None)
    assert read("openai-stream", list(enumerate(whole))).failure is None
    assert read("openai-stream", list(enumerate(whole[:-1]))).failure is None, "it said why it stopped"
    reply = read("openai-stream", list(enumerate(whole[:-2])))
    assert reply.failure is not None
    assert (reply.failure.status, reply.failure.error, reply.text) == ("error", "incomplete", "a")


@pytest.mark.parametrize("error", [{"message": "CUDA out of memory", "type": "X"}, "CUDA out of memory"])
def test_an_error_in_an_openai_stream(error: Any) -> None:
    reply = read("openai-stream", [(1, delta(content="a")), (2, as_events({"error": error}))])
    assert reply.failure is not None
    assert (reply.failure.status, reply.text) == ("oom", "a")


@pytest.mark.parametrize("wire", ["generate-stream", "openai-stream"])
@pytest.mark.parametrize("data", [b"[1]", b"5", b"null", b"{", b'"x"', b"\xff", b"[" * 100_000, b'{"choices": 5}'])
def test_no_event_is_too_odd_to_be_a_failed_request(wire: Wire, data: bytes) -> None:
    reply = read(wire, [(1, b"data: " + data + b"\n\n")])
    assert reply.failure is not None
    assert reply.failure.status == "error"


def test_halves_of_characters_do_not_reach_a_file() -> None:
    odd = {**said("a\ud800", 1, reason="\ud800"), "model_version": "\udfff"}
    reply = read("generate-stream", [(1, b"data: " + json.dumps(odd).encode() + b"\n\n")])
    assert (reply.failure, reply.text, reply.finish_reason, reply.version) == (None, "a?", "?", "?")


@pytest.mark.parametrize("token", [-1, 2**31, "x", None, [1]])
def test_what_is_no_token_id_does_not_reach_a_file(token: Any) -> None:
    reply = read("generate", [(1, json.dumps({**said("a"), "token_ids": [token]}).encode())])
    assert reply.failure is not None
    assert (reply.failure.error, reply.token_ids) == ("undecodable", [])


def test_no_answer_however_damaged_is_more_than_a_failed_request() -> None:
    rng = random.Random(1)
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    chat = events_of(["a", "b"], chat=True, reason="stop", usage=usage)
    whole = json.dumps(completion("ab", chat=True, reason="stop", usage=usage)).encode()
    output = {"name": "OUTPUT", "datatype": "FP32", "shape": [1], "data": [1]}
    kserve = json.dumps({"model_version": "1", "outputs": [output]})
    bodies = [GENERATED, b"".join(chat), whole, kserve.encode(), *(raw for _, raw in UMLAUT.frames)]
    wires: tuple[Wire, ...] = ("http", "grpc", "grpc-stream", "generate", "generate-stream", "openai", "openai-stream")
    odd = (b"null", b"[]", b"{}", b"1e999", b"-1", b"\xff", b"NaN", b"x")
    for _ in range(3000):
        raw = bytearray(rng.choice(bodies) or b"x")
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(raw))
            raw[at : at + rng.choice((0, 1, 5))] = rng.choice(odd)
        for wire in wires:
            model, kept = rng.choice((TINY, SMOLLM2)), rng.random() < 0.5
            reply = read(wire, [(1, bytes(raw))], model, digests=kept, tokens=kept)
            for text in (reply.text, reply.version, reply.finish_reason):
                text.encode()
            assert all(type(token) is int for token in (*reply.token_ids, *reply.topk_ids))
            assert all(-1 <= count < 2**31 for count in (reply.isl, reply.osl, reply.cached_tokens))
