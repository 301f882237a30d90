"""Tokens that no engine counted: counted here, where the load has a tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.load import FRONT_END, LoadSpec
from harness.load.engine.exchange import Exchange
from harness.load.reply import Reader, Reply
from harness.scenario.word_list import WORDS
from harness.tokens import counter
from harness.types import Arm, ModelInfo, Prompt, StagePlan, TensorSpec, Wire
from tests.load.carrying import exchange
from tests.load.conftest import SMOLLM2, drive, make_spec, rows
from tests.load.engine.test_carry import PAIRED, Rig
from tests.load.openai_front_end import OpenAiFrontEnd, events_of
from tests.load.test_reply import UMLAUT, final, frame, response
from tests.load.test_reply_events import delta
from tests.tokenizer import tokenizer_json

COUNT = counter(tokenizer_json(), "")
# As TensorRT-LLM's ensemble: text, and nothing that counts.
TEXT = replace(SMOLLM2, outputs=(TensorSpec("text_output", "BYTES", (-1,)),))
PIECES = (WORDS[100], f" {WORDS[101]} a", "b")
TOKENS = 4


def said(text: str, **more: tuple[str, list[int], list[int]]) -> bytes:
    return frame(response("2", text_output=("BYTES", [1], [text.encode()]), **more))


def read(wire: Wire, answered: Exchange, model: ModelInfo = TEXT, *, tokens: bool = False) -> Reply:
    return Reader(model, wire, digests=False, tokens=tokens, count=COUNT).read(answered)


def test_the_text_of_a_stream_is_counted_as_one() -> None:
    # Whose chunks hold half a word, or two.
    reply = read("grpc-stream", exchange(*((n, said(text)) for n, text in enumerate(PIECES)), (9, final())))
    assert (reply.failure, reply.osl, reply.counted, reply.chunks_ns) == (None, TOKENS, True, [0, 1, 2])


@pytest.mark.parametrize("wire", ["generate", "openai"])
def test_an_answer_in_one_is_counted(wire: Wire) -> None:
    text = "".join(PIECES)
    body = {"text_output": text} if wire == "generate" else {"choices": [{"message": {"content": text}}]}
    reply = read(wire, exchange((3, json.dumps(body).encode()), status=200))
    assert (reply.failure, reply.osl, reply.counted) == (None, TOKENS, True)


def test_an_engine_that_counts_is_believed() -> None:
    vllm = said("one two three", num_output_tokens=("UINT32", [1], [7]))
    reply = read("grpc-stream", exchange((1, vllm), (2, final())))
    assert (reply.osl, reply.counted) == (7, False)
    reply = read("grpc-stream", UMLAUT, SMOLLM2)
    assert (reply.osl, reply.counted) == (2, False)
    assert reply.text == "", "no text is kept to count what is counted"
    usage = {"prompt_tokens": 3, "completion_tokens": 9}
    body = events_of(["a", "b"], chat=True, reason="stop", usage=usage)
    reply = read("openai-stream", exchange(*enumerate(body), status=200))
    assert (reply.isl, reply.osl, reply.counted) == (3, 9, False)


def test_what_is_not_all_text_stays_unknown() -> None:
    events = (delta(reasoning_content="hm"), delta(content="a"), b"data: [DONE]\n\n")
    reply = read("openai-stream", exchange(*enumerate(events), status=200))
    assert (reply.failure, reply.osl, reply.counted) == (None, -1, False)


def text_rig(folder: Path, **changes: object) -> Rig:
    fields = {"model": TEXT, "prompts": (Prompt("a", None, 5), Prompt("b")), "tokenizer": tokenizer_json(), **changes}
    return Rig(folder, *map(said, PIECES), final(), **fields)


def test_a_sample_has_the_lengths_of_what_was_asked_and_answered(tmp_path: Path) -> None:
    rig = text_rig(tmp_path)
    rig.carry(PAIRED, 1, "baseline", "candidate")
    rig.carry(PAIRED, 2, "baseline", prompt=1)
    assert [(s.isl, s.osl) for s in rig.samples] == [(5, TOKENS), (5, TOKENS), (-1, TOKENS)]
    assert rig.carrier.counted == {"baseline": 2, "candidate": 1}


def test_the_key_of_a_unique_prompt_is_asked_as_well(tmp_path: Path) -> None:
    rig = text_rig(tmp_path, cache="unique")
    rig.carry(PAIRED, 1, "baseline", "candidate")
    (key,) = {key.decode() for key in rig.keys}
    assert {s.isl for s in rig.samples} == {COUNT(key) + 5}


def test_without_a_tokenizer_nothing_is_made_up(tmp_path: Path) -> None:
    rig = text_rig(tmp_path, tokenizer="")
    rig.carry(PAIRED, 1, "baseline")
    assert [(s.isl, s.osl) for s in rig.samples] == [(-1, -1)]
    assert rig.carrier.counted == {}


def test_the_tokenizer_travels_in_the_spec_and_a_bad_one_is_a_wrong_wish(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, prompts=(Prompt("a", 1, 5),), tokenizer=tokenizer_json())
    assert LoadSpec.from_json(spec.to_json()) == spec
    count = spec.count()
    assert count is not None
    assert count("".join(PIECES)) == TOKENS
    with pytest.raises(UsageError, match=r"^load\.tokenizer: expected a tokenizer\.json"):
        make_spec(tmp_path, tokenizer="{}").count()


def test_a_front_end_that_says_no_usage(tmp_path: Path) -> None:
    text = " ".join(WORDS[100:110])
    with OpenAiFrontEnd() as front:
        arm = Arm(front.url, "echo", api="openai", parameters={"stream_options": None})
        spec = make_spec(
            tmp_path, model=replace(FRONT_END, name="echo"), prompts=(Prompt(text, 6, COUNT(text)),),
            tokenizer=tokenizer_json(),
        )  # fmt: skip
        spec = replace(spec, arms={"baseline": arm, "candidate": arm})
        samples = drive(spec, tmp_path / "load.log", StagePlan(0, "paired", "constant", 2.5, 0.5, rate=10))
    assert {(s["status"], s["isl"], s["osl"]) for s in samples} == {("ok", 10, 6)}
    devices = {r["device"] for r in rows(tmp_path, "readings") if r["metric"] == "osl.by_tokenizer"}
    assert devices == {"worker0/baseline", "worker0/candidate"}
