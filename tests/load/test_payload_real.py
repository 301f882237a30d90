"""What is asked and answered over every wire of a real Triton, and of a fake OpenAI front end (its file says why)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as reference

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import UsageError
from harness.load.payload import generation
from harness.load.reply import Reply
from harness.load.spec import FRONT_END, LoadSpec, host_of
from harness.load.template import unique_key
from harness.tensors import DTYPES, decode
from harness.triton import Control
from harness.types import Arm, Prompt
from tests.load import talkers
from tests.load.carrying import NONCE, ask
from tests.load.conftest import make_spec
from tests.load.openai_front_end import OpenAiFrontEnd

SAID = "Die Bären grüßen höflich"
EVERY_TOKEN_WIRE = [
    ("grpc", "kserve", True),
    ("grpc", "kserve", False),
    ("http", "generate", True),
    ("http", "generate", False),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("talkers")
    build_repository(folder / "models", {"tiny": {1: {"delay_ms": 0}, 2: {"delay_ms": 0, "fail": 1.0}}})
    talkers.build(folder / "models")
    with EmbeddedServer(folder / "models", folder / "server.log") as running:
        yield running.start({"tiny": [1, 2], "vllm": [1], "ensemble": [1], "every": [1]})


def spec_of(server: EmbeddedServer, folder: Path, model: str, scheme: str, **changes: Any) -> LoadSpec:
    """Both arms are versions 1 and 2 of the model, as Triton itself describes it."""
    with Control(server.grpc_url) as control:
        info = control.metadata(model)
    url = server.grpc_url if scheme == "grpc" else server.http_url
    arm = Arm(url, model, 1, api=changes.pop("api", "kserve"), stream=changes.pop("stream", True))
    arms = {"baseline": arm, "candidate": replace(arm, version=2)}
    return make_spec(folder, model=info, arms=arms, **changes)


@pytest.mark.triton
@pytest.mark.parametrize(("scheme", "api", "stream"), EVERY_TOKEN_WIRE)
@pytest.mark.parametrize("model", ["vllm", "ensemble"])
def test_a_token_model_answers(
    model: str, scheme: str, api: str, stream: bool, server: EmbeddedServer, tmp_path: Path
) -> None:
    prompts = (Prompt(SAID), Prompt(SAID, 2))
    spec = spec_of(server, tmp_path, model, scheme, api=api, stream=stream, prompts=prompts)
    whole, short = (ask(spec, number=number) for number in (0, 1))
    assert (whole.failure, short.failure) == (None, None)
    assert (whole.text, short.text) == (f"{SAID} ", "Die Bären ")
    assert (whole.version, short.version) == ("1", "1")
    assert (whole.isl, whole.osl, short.isl, short.osl) == (4, 4, 4, 2)
    # TensorRT-LLM's ensemble does not say why it stopped.
    assert (whole.finish_reason, short.finish_reason) == (("stop", "length") if model == "vllm" else ("", ""))
    chunks = len(whole.chunks_ns)
    assert chunks == (4 if stream else int(scheme == "grpc"))
    if chunks:
        assert whole.first_ns == whole.chunks_ns[0]
        assert whole.chunks_ns == sorted(whole.chunks_ns)


@pytest.mark.triton
@pytest.mark.parametrize(("scheme", "api", "stream"), EVERY_TOKEN_WIRE)
def test_an_error_of_a_token_model_is_a_failed_request(
    scheme: str, api: str, stream: bool, server: EmbeddedServer, tmp_path: Path
) -> None:
    spec = spec_of(server, tmp_path, "vllm", scheme, api=api, stream=stream, prompts=(Prompt("one fail two"),))
    reply = ask(spec)
    if stream:
        assert reply.failure is not None
        assert (reply.failure.status, "told to fail" in reply.failure.message) == ("error", True)
        assert (reply.text, reply.osl) == ("one ", 1)
    else:
        assert (reply.failure, reply.text) == (None, "one fail two ")


@pytest.mark.triton
@pytest.mark.parametrize(("scheme", "api", "stream"), EVERY_TOKEN_WIRE)
def test_a_version_that_is_not_there_is_a_failed_request(
    scheme: str, api: str, stream: bool, server: EmbeddedServer, tmp_path: Path
) -> None:
    spec = spec_of(server, tmp_path, "vllm", scheme, api=api, stream=stream, prompts=(Prompt("one"),))
    reply = ask(spec, "candidate")
    assert reply.failure is not None
    assert "version 2" in reply.failure.message or "unknown model" in reply.failure.message


@pytest.mark.triton
def test_a_unique_key_reaches_the_model_in_front_of_the_prompt(server: EmbeddedServer, tmp_path: Path) -> None:
    spec = spec_of(server, tmp_path, "vllm", "grpc", prompts=(Prompt("one"),), cache="unique")
    assert ask(spec).text == f"{unique_key(NONCE, 1)} one "


@pytest.mark.triton
def test_every_type_comes_back_as_it_was_sent(server: EmbeddedServer, tmp_path: Path) -> None:
    """tritonclient's own answer to the same values is the reference."""
    spec = spec_of(server, tmp_path, "every", "http", shapes=dict.fromkeys(talkers.TYPES, (3,)))
    over_http, over_grpc = (
        ask(spec_of(server, tmp_path, "every", scheme, shapes=spec.shapes), digests=True) for scheme in ("http", "grpc")
    )
    assert (over_http.failure, over_http.version) == (None, "1")
    assert over_http.digest == over_grpc.digest != ""

    sent = {t.name: t for t in generation(spec, "baseline", 0)}
    inputs = []
    for t in sent.values():
        array: Any = np.array(decode(t.datatype, t.raw), object if t.datatype == "BYTES" else DTYPES[t.datatype])
        inputs.append(reference.InferInput(t.name, list(t.shape), t.datatype))
        inputs[-1].set_data_from_numpy(array.reshape(t.shape))
    with reference.InferenceServerClient(host_of(server.http_url)) as client:
        answer = client.infer("every", inputs, "1")
    for t in sent.values():
        back = answer.as_numpy(f"OUT_{t.name}")
        assert back.shape == t.shape == (2, 3)
        assert back.reshape(-1).tolist() == decode(t.datatype, t.raw), t.name


@pytest.mark.triton
def test_given_rows_reach_the_model(server: EmbeddedServer, tmp_path: Path) -> None:
    values = [float(number) for number in range(16)]

    def digest(scheme: str, row: dict[str, Any], api: str = "kserve") -> Reply:
        return ask(spec_of(server, tmp_path, "tiny", scheme, api=api, stream=False, inputs=(row,)), digests=True)

    one, same, other = (
        digest("http", {"INPUT": values}),
        digest("grpc", {"INPUT": values}),
        digest("grpc", {"INPUT": [2.0] * 16}),
    )
    assert one.failure is None
    assert one.digest == same.digest != other.digest
    generated = digest("http", {"INPUT": values}, "generate")
    assert (generated.failure, generated.version, generated.chunks_ns) == (None, "1", [])
    assert generated.digest not in ("", digest("http", {"INPUT": values[::-1]}, "generate").digest)


@pytest.mark.triton
@pytest.mark.parametrize(("scheme", "api"), [("grpc", "kserve"), ("http", "kserve"), ("http", "generate")])
def test_an_error_of_any_model_is_a_failed_request(
    scheme: str, api: str, server: EmbeddedServer, tmp_path: Path
) -> None:
    reply = ask(spec_of(server, tmp_path, "tiny", scheme, api=api, stream=False), "candidate")
    assert reply.failure is not None
    assert (reply.failure.status, "tiny was told to fail" in reply.failure.message) == ("error", True)
    assert (reply.version, reply.first_ns) == ("", -1)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_an_openai_front_end_answers(endpoint: str, stream: bool, tmp_path: Path) -> None:
    with OpenAiFrontEnd() as front_end:
        arm = Arm(front_end.url, "echo", parameters={"endpoint": endpoint, "top_p": 0.5}, api="openai", stream=stream)
        arms = {"baseline": arm, "candidate": replace(arm, model="other")}
        prompts = (Prompt(SAID, 3),)
        spec = make_spec(tmp_path, model=replace(FRONT_END, name="echo"), arms=arms, prompts=prompts)
        reply = ask(spec)
        refused = ask(spec, "candidate")
    assert reply.failure is None
    assert (reply.text, reply.isl, reply.osl, reply.finish_reason) == ("Die Bären grüßen ", 4, 3, "length")
    assert len(reply.chunks_ns) == (3 if stream else 0)
    headers, body = front_end.seen[0]
    assert (headers["X-Request-Id"], body["top_p"], body["temperature"]) == ("0000000000000001-b0", 0.5, 0.0)
    assert refused.failure is not None
    assert (refused.failure.error, "Unknown model: other" in refused.failure.message) == ("http 400", True)


def test_a_front_end_is_asked_at_one_of_two_places(tmp_path: Path) -> None:
    arm = Arm("http://127.0.0.1:1", "echo", parameters={"endpoint": "v1/chat"}, api="openai")
    spec = make_spec(tmp_path, model=FRONT_END, arms={"baseline": arm}, prompts=(Prompt("a"),))
    with pytest.raises(UsageError, match="endpoint is chat or completions"):
        ask(spec)
