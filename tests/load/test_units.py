"""An A/B test's requests: each goes to its unit's arm, and is recorded with unit and assignment."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest

from harness.embedded import EmbeddedServer
from harness.load import Generator, LoadSpec, Routed
from harness.recording import read_table, seal
from harness.scenario import requests
from harness.scenario.plan.experiment import drawn
from harness.types import Arm, StagePlan
from tests.load.conftest import TINY, account, make_spec

STAGE = StagePlan(0, "split", "poisson", 3.0, 0.5, rate=60.0)
UNITS = drawn(40, "salt", 0.5, 0.3, 0.5)


def spec_of(folder: Path, a: Arm, b: Arm, **changes: object) -> LoadSpec:
    spec = make_spec(folder)
    arms = {"baseline": a, "candidate": b}
    models = dict.fromkeys(arms, replace(TINY, name="tiny"))
    return replace(
        spec, arms=arms, models=models, t0_ns=time.monotonic_ns(), experiment=UNITS, timeout_s=30.0, **changes
    )  # type: ignore[arg-type]


def send(spec: LoadSpec, workers: int = 1) -> pa.Table:
    with Generator(spec, spec.folder / "load.log", workers=workers) as generator:
        generator.start()
        generator.stage(STAGE)
        deadline = time.monotonic() + 120
        while not any(event["event"] == "stage_done" for event in generator.events(0.5)):
            assert time.monotonic() < deadline
        generator.stop()
    seal(spec.folder)
    samples = read_table(spec.folder, "samples")
    assert samples is not None
    return samples


def test_units_travel_to_the_load_process(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, Arm("http://h:1", "tiny"), Arm("http://h:2", "tiny"))
    assert LoadSpec.from_json(spec.to_json()) == spec
    none = replace(spec, experiment=None)
    assert LoadSpec.from_json(none.to_json()).experiment is None


@pytest.mark.triton
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_every_request_is_recorded_with_its_unit(
    tiny_server: EmbeddedServer, tmp_path: Path, scheme: str, workers: int
) -> None:
    url = tiny_server.http_url if scheme == "http" else tiny_server.grpc_url
    arms = [Arm(url, "tiny", version, {"x-experiment": letter}) for version, letter in ((1, "A"), (2, "B"))]
    spec = spec_of(tmp_path, *arms)
    samples = send(spec, workers).to_pylist()
    planned = {one.pair_id: one for one in requests(STAGE, spec.seed, spec.payloads, experiment=UNITS)}
    account(spec, STAGE, workers=workers)
    version = {"baseline": "1", "candidate": "2"}
    for row in samples:
        plan = planned[row["pair_id"]]
        assert (row["unit"], row["assignment"], (row["arm"],)) == (plan.unit, plan.assignment, plan.arms)
        assert row["version"] == version[row["arm"]]
    assert {row["assignment"] for row in samples} == {"hash", "header"}


class _FakeRouter(BaseHTTPRequestHandler):
    """A stand-in for a router: answers, and says which arm did, by the header; sometimes with an error of its own."""

    protocol_version = "HTTP/1.1"
    asked: Counter[tuple[str, str]] = Counter()  # noqa: RUF012 - of this test's one server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        letter = self.headers["x-experiment"]
        self.asked[self.path, letter] += 1
        good = sum(self.asked.values()) % 5 > 0
        body = json.dumps(
            {"model_name": "tiny", "model_version": "7", "outputs": [
                {"name": "OUTPUT", "datatype": "FP32", "shape": [1, 4], "data": [0.0] * 4}]}
            if good else {"error": "no server is up"}
        ).encode()  # fmt: skip
        self.send_response(200 if good else 503)
        if good:
            self.send_header("X-Served-By", {"A": "blue", "B": "green"}[letter])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def router() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _FakeRouter) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_the_ingress_calls_the_arm_is_the_server_of_the_sample(router: str, tmp_path: Path) -> None:
    a, b = (Arm(router, "tiny", None, {"x-experiment": letter}) for letter in "AB")
    routed = Routed("x-served-by", {"blue": "baseline", "green": "candidate"})
    samples = send(spec_of(tmp_path, a, b, routed=routed)).to_pylist()
    assert {path for path, _ in _FakeRouter.asked} == {"/v2/models/tiny/infer"}, "no version is named"
    arms = dict(zip(UNITS.units, UNITS.arms, strict=True))
    host = router.partition("://")[2]
    assert {(row["arm"], row["status"] == "ok", row["server"]) for row in samples} == {
        ("baseline", True, "blue"), ("candidate", True, "green"), ("baseline", False, host), ("candidate", False, host),
    }  # fmt: skip
    assert all(row["arm"] == arms[row["unit"]] for row in samples)
