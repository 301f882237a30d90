from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.load import LoadSpec, wire_of
from harness.types import Api, Arm, Prompt, Tls
from tests.load.conftest import SMOLLM2, TINY, make_spec


def test_the_spec_survives_the_protocol(tmp_path: Path) -> None:
    prompts = (Prompt("Ünïcode\nand lines"), Prompt("2", 7))
    spec = make_spec(tmp_path, model=SMOLLM2, prompts=prompts, logprobs_k=20)
    arm = Arm("grpcs://h:1", "smollm2", None, {"x-a": "b"}, {"temperature": 0.5, "stop": ["a"]}, tls=Tls(ca="ca.pem"))
    spec = replace(
        spec, trace_ns=(0, 5), inputs=({"INPUT": [1.5, 2]},), shapes={"INPUT": (2,)}, cache="unique", connections=3,
        workers=4, nonce="a run's own",
    )  # fmt: skip
    spec = replace(spec, arms={**spec.arms, "candidate": arm}, chunks=True, compare_outputs=True, worker=3)

    text = spec.to_json()

    assert "\n" not in text
    assert LoadSpec.from_json(text) == spec


def test_each_run_has_a_nonce_of_its_own_and_its_workers_share_it(tmp_path: Path) -> None:
    one, other = make_spec(tmp_path), make_spec(tmp_path)
    assert one.seed == other.seed
    assert one.nonce != other.nonce
    assert LoadSpec.from_json(one.to_json()).nonce == one.nonce


@pytest.mark.parametrize(
    ("url", "decoupled", "wire"),
    [
        ("grpc://h:1", True, "grpc-stream"),
        ("grpcs://h:1", False, "grpc"),
        ("http://h:1", False, "http"),
        ("https://h:1", False, "http"),
    ],
)
def test_the_wire_follows_from_scheme_and_model(url: str, decoupled: bool, wire: str) -> None:
    assert wire_of(Arm(url, "m"), replace(TINY, decoupled=decoupled)) == wire


@pytest.mark.parametrize(
    ("api", "stream", "wire"),
    [
        ("generate", True, "generate-stream"),
        ("generate", False, "generate"),
        ("openai", True, "openai-stream"),
        ("openai", False, "openai"),
    ],
)
def test_the_wire_follows_from_the_api(api: Api, stream: bool, wire: str) -> None:
    assert wire_of(Arm("http://h:1", "m", api=api, stream=stream), SMOLLM2) == wire
    with pytest.raises(UsageError, match="travels over HTTP"):
        wire_of(Arm("grpc://h:1", "m", api=api, stream=stream), SMOLLM2)


def test_a_decoupled_model_over_http_is_a_wrong_wish() -> None:
    with pytest.raises(
        UsageError, match=r"decoupled models stream over gRPC \(grpc://\.\.\.\) or the generate api"
    ) as caught:
        wire_of(Arm("http://h:1", "smollm2"), SMOLLM2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["h:8001", "ftp://h:1", "grpc://", ""])
def test_other_addresses_are_wrong_wishes(url: str) -> None:
    with pytest.raises(UsageError, match="starts with grpc://, grpcs://, http:// or https://"):
        wire_of(Arm(url, "m"), TINY)


def test_a_model_that_reads_text_needs_prompts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give it prompts"):
        make_spec(tmp_path, model=SMOLLM2).check()


def test_the_parent_side_brings_no_locust_gevent_or_grpc() -> None:
    code = "import sys, harness.load; print([m for m in ('locust', 'gevent', 'grpc') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
