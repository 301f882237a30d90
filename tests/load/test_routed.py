"""Requests through an ingress: only their answers say who had them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.load import Generator, LoadSpec, Routed
from harness.recording import read_table, seal
from harness.types import Arm, ModelInfo, StagePlan, TensorSpec

MODEL = ModelInfo("m", "", (1, 2), (TensorSpec("X", "FP32", (2,)),), (TensorSpec("Y", "FP32", (2,)),), 0, False)
STAGE = StagePlan(0, "split", "constant", 2.0, 0.5, rate=50.0, routed=True)


@pytest.mark.parametrize(
    ("fields", "version", "arm"),
    [
        ({"x-served-by": "v2"}, "", "candidate"),
        ({"x-served-by": "v1"}, "2", "baseline"),  # the ingress knows better than a number
        ({"x-served-by": "other"}, "2", "unknown"),
        ({}, "2", "candidate"),
        ({}, "1", "baseline"),
        ({}, "3", "unknown"),
        ({}, "", "unknown"),
    ],
)
def test_who_had_a_request(fields: dict[str, str], version: str, arm: str) -> None:
    routed = Routed("x-served-by", {"v1": "baseline", "v2": "candidate"}, {"1": "baseline", "2": "candidate"})
    assert routed.arm(fields, version) == arm


def test_it_travels_to_the_load_process(tmp_path: Path) -> None:
    routed = Routed("x-served-by", {"v1": "baseline"}, {"1": "baseline"})
    spec = LoadSpec(
        arms={"unknown": Arm("http://h:1", "m")}, models={"unknown": MODEL}, seed=1, prompts=(), max_tokens=1,
        timeout_s=1.0, logprobs_k=0, chunks=False, t0_ns=0, folder=tmp_path, routed=routed,
    )  # fmt: skip
    assert LoadSpec.from_json(spec.to_json()).routed == routed


class _FakeIngress(BaseHTTPRequestHandler):
    """A stand-in that gives in turns: to v1; to v2, which fails without naming its version; to nobody that it names."""

    protocol_version = "HTTP/1.1"
    turn, turning = 0, threading.Lock()
    asked: set[str] = set()  # noqa: RUF012 - of this test's one server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.turning:
            type(self).asked.add(self.path)
            type(self).turn += 1
            who = (("v1", 200), ("v2", 500), ("", 502))[self.turn % 3]
        good = {"model_name": "m", "model_version": "1", "outputs": [
            {"name": "Y", "datatype": "FP32", "shape": [2], "data": [0.0, 0.0]}]}  # fmt: skip
        body = json.dumps(good if who[1] == 200 else {"error": "no"}).encode()
        self.send_response(who[1])
        if who[0]:
            self.send_header("X-Served-By", who[0])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ingress() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _FakeIngress) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_samples_name_the_arm_that_answered(ingress: str, tmp_path: Path) -> None:
    import time

    arms = {name: Arm("http://127.0.0.1:9", "m", version) for name, version in (("baseline", 1), ("candidate", 2))}
    spec = LoadSpec(
        arms={**arms, "unknown": Arm(ingress, "m")},  # type: ignore[dict-item]
        models=dict.fromkeys(("baseline", "candidate", "unknown"), MODEL), seed=1, prompts=(), max_tokens=1,
        timeout_s=10.0, logprobs_k=0, chunks=False, t0_ns=time.monotonic_ns(), folder=tmp_path,
        routed=Routed("x-served-by", {"v1": "baseline", "v2": "candidate"}, {"1": "baseline", "2": "candidate"}),
    )  # fmt: skip
    with Generator(spec, tmp_path / "load.log") as generator:
        generator.start()
        generator.route(0.0)  # what a rollback tells the generator moves nothing at an ingress
        generator.stage(STAGE)
        deadline = time.monotonic() + 60
        while not any(event["event"] == "stage_done" for event in generator.events(0.5)):
            assert time.monotonic() < deadline
        begun = generator.begun("unknown"), generator.begun("baseline"), generator.begun("candidate")
        generator.stop()
    seal(tmp_path)
    samples = read_table(tmp_path, "samples").to_pandas()
    assert begun == (len(samples), 0, 0)
    assert _FakeIngress.asked == {"/v2/models/m/infer"}, "no version is named"
    assert set(samples.assignment) == {"observed"}
    by_arm = samples.groupby("arm").status.agg(set).to_dict()
    assert by_arm == {"baseline": {"ok"}, "candidate": {"error"}, "unknown": {"error"}}
    counts = samples.arm.value_counts()
    assert counts.max() - counts.min() <= 1
    assert set(samples[samples.arm == "candidate"].version) == {""}
