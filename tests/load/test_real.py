"""The Locust process against a real Triton."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import ServerDied, UsageError, WorldError
from harness.load import Generator
from harness.scenario.plan import requests
from harness.triton import Control
from harness.types import Arm, Prompt, StagePlan
from tests.load.conftest import SMOLLM2, account, drive, make_spec, rows, wait_for
from tests.waiting import until

pytestmark = pytest.mark.triton

CLOSED_PAIRED = StagePlan(0, "paired", "closed", 0.6, 0.5, in_flight=1)
CLOSED_INTERLEAVED = StagePlan(1, "interleaved", "closed", 0.6, 0.5, in_flight=4)
OPEN_SPLIT = StagePlan(2, "split", "poisson", 1.0, 0.25, rate=80.0)
OPEN_PAIRED = StagePlan(3, "paired", "constant", 0.5, 0.5, rate=20.0)
STAGES = (CLOSED_PAIRED, CLOSED_INTERLEAVED, OPEN_SPLIT, OPEN_PAIRED)


def of_stage(samples: list[dict[str, Any]], index: int) -> list[dict[str, Any]]:
    return [sample for sample in samples if sample["stage"] == index]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_every_mode_and_arrival_as_planned(triton: EmbeddedServer, tmp_path: Path, scheme: str) -> None:
    url = triton.grpc_url if scheme == "grpc" else triton.http_url
    spec = make_spec(tmp_path, url=url, compare_outputs=True)

    samples = drive(spec, tmp_path / "load.log", *STAGES)

    for stage in STAGES:
        seen = of_stage(samples, stage.index)
        assert seen, stage
        pairs: dict[int, list[dict[str, Any]]] = {}
        for sample in seen:
            pairs.setdefault(sample["pair_id"], []).append(sample)
        planned = {}
        for request, _ in zip(requests(stage, spec.seed, spec.payloads), range(len(pairs)), strict=False):
            planned[request.pair_id] = request
        assert pairs.keys() == planned.keys(), "the plan's requests, from the first on, and no others"
        for pair_id, sent in pairs.items():
            assert Counter(s["arm"] for s in sent) == Counter(planned[pair_id].arms)
            assert len({s["due_ns"] for s in sent}) == 1
        for s in seen:
            assert 0 < s["due_ns"] <= s["sent_ns"] < s["done_ns"]
            assert (s["model"], s["server"]) == ("tiny", url.partition("://")[2])
            if s["status"] == "ok":
                assert s["version"] == {"baseline": "1", "candidate": "2"}[s["arm"]]
                assert s["sent_ns"] < s["first_ns"] <= s["done_ns"]
            else:
                # Version 2 was built to fail half of its requests.
                assert (s["arm"], s["status"], s["version"], s["first_ns"]) == ("candidate", "error", "", -1)
                assert s["error"] == ("internal" if scheme == "grpc" else "http 500")
                assert s["code"] == ("INTERNAL" if scheme == "grpc" else "500")
    account(spec, OPEN_SPLIT, OPEN_PAIRED)
    failed = [s for s in samples if s["status"] == "error"]
    served = [s for s in samples if s["arm"] == "candidate" and s["status"] == "ok"]
    assert failed
    assert served
    one_slot = of_stage(samples, 0)
    pairs_in_order = sorted({(s["due_ns"], s["pair_id"]) for s in one_slot})
    for (_, before), (due_ns, _) in pairwise(pairs_in_order):
        assert all(s["done_ns"] <= due_ns for s in one_slot if s["pair_id"] == before), "one pair at a time"
    outputs = rows(tmp_path, "outputs")
    assert len(outputs) == len([s for s in samples if s["status"] == "ok"])
    by_pair: dict[int, set[str]] = {}
    for output in outputs:
        by_pair.setdefault(output["pair_id"], set()).add(output["digest"])
    assert {len(digests) for digests in by_pair.values()} == {1}, "an identity model: both arms answer alike"
    assert len({digest for digests in by_pair.values() for digest in digests}) > 10


def test_locust_counted_the_requests_too(triton: EmbeddedServer, tmp_path: Path) -> None:
    samples = drive(make_spec(tmp_path, url=triton.grpc_url), tmp_path / "load.log")
    total = next(x for x in (tmp_path / "load.log").read_text().splitlines() if "Aggregated" in x)
    assert int(total.split()[1]) == len(samples)


def test_a_deadline_is_a_timeout_over_both_wires(triton: EmbeddedServer, tmp_path: Path) -> None:
    for url in (triton.grpc_url, triton.http_url):
        folder = tmp_path / url.partition(":")[0]
        folder.mkdir()
        spec = make_spec(folder, url=url, timeout_s=0.1)
        slow = {"baseline": Arm(url, "tiny", 3), "candidate": Arm(url, "tiny", 3)}
        samples = drive(replace(spec, arms=slow), folder / "load.log")
        assert samples
        assert {s["status"] for s in samples} == {"timeout"}
        assert all(80e6 < s["done_ns"] - s["sent_ns"] < 2500e6 for s in samples)


def test_a_version_that_is_not_there_is_recorded_not_raised(triton: EmbeddedServer, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, url=triton.grpc_url)
    arms = {**spec.arms, "candidate": Arm(triton.grpc_url, "tiny", 77)}
    samples = drive(replace(spec, arms=arms), tmp_path / "load.log")
    assert {s["status"] for s in samples if s["arm"] == "baseline"} == {"ok"}
    assert {s["status"] for s in samples if s["arm"] == "candidate"} <= {"error", "refused"}


def test_the_route_is_overridden_while_traffic_flows(triton: EmbeddedServer, tmp_path: Path) -> None:
    stage = StagePlan(0, "split", "constant", 600.0, 0.5, rate=50.0)
    spec = make_spec(tmp_path, url=triton.grpc_url)
    planned = {one.pair_id: one.arms for one in requests(stage, spec.seed, spec.payloads)}

    def moved() -> int:
        return sum(s["arm"] == "baseline" and planned[s["pair_id"]] == ("candidate",) for s in rows(tmp_path))

    with Generator(spec, tmp_path / "load.log") as generator:
        generator.start()
        generator.stage(stage)
        begun = wait_for(generator, "stage_begun", 0)
        until(lambda: len(rows(tmp_path)) >= 30, "samples")
        told_ns = time.monotonic_ns() - spec.t0_ns
        generator.route(0.0)
        until(lambda: moved() >= 10, "requests go the other way")
        generator.stop()
        assert begun["t_ns"] > 0
    samples = sorted(rows(tmp_path), key=lambda s: s["sent_ns"])
    # The first one that goes elsewhere than planned marks the moment: nobody tells it.
    changed = [(s["arm"],) == planned[s["pair_id"]] for s in samples].index(False)
    assert samples[changed]["sent_ns"] > told_ns
    assert Counter(s["arm"] for s in samples[:changed])["candidate"] > 5
    assert {s["arm"] for s in samples[changed:]} == {"baseline"}


def test_the_next_stage_ends_the_one_before(triton: EmbeddedServer, tmp_path: Path) -> None:
    long = StagePlan(0, "interleaved", "closed", 600.0, 0.5, in_flight=2)
    spec = make_spec(tmp_path, url=triton.http_url)
    with Generator(spec, tmp_path / "load.log") as generator:
        generator.start()
        generator.stage(long)
        until(lambda: len(rows(tmp_path)) > 10, "samples")
        generator.stage(replace(CLOSED_PAIRED, index=1))
        wait_for(generator, "stage_done", 1)
        generator.stop()
    samples = rows(tmp_path)
    begin_ns = min(s["due_ns"] for s in of_stage(samples, 1))
    assert max(s["due_ns"] for s in of_stage(samples, 0)) <= begin_ns


def test_a_stage_is_ended_and_its_requests_come_to_their_end(triton: EmbeddedServer, tmp_path: Path) -> None:
    """And what has been begun is known to the parent before the server can count it."""
    long = StagePlan(0, "interleaved", "closed", 600.0, 0.5, in_flight=3)
    spec = make_spec(tmp_path, url=triton.grpc_url)
    with Generator(spec, tmp_path / "load.log") as generator, Control(triton.grpc_url) as control:
        assert generator.begun("baseline") == 0
        before = control.counts("tiny")[1].total
        generator.start()
        generator.stage(long)
        while generator.begun("baseline") < 100:
            counted = control.counts("tiny")[1].total - before
            assert counted <= generator.begun("baseline")
        generator.end_stage()
        wait_for(generator, "stage_done", 0)
        generator.stop()
        samples = rows(tmp_path)
        assert {s["status"] for s in samples if s["arm"] == "baseline"} == {"ok"}
        for arm in ("baseline", "candidate"):
            assert generator.begun(arm) == len([s for s in samples if s["arm"] == arm])
    assert not (tmp_path / ".begun-0").exists()


def test_requests_in_flight_are_cancelled_when_the_run_is_stopped(triton: EmbeddedServer, tmp_path: Path) -> None:
    for url in (triton.grpc_url, triton.http_url):
        folder = tmp_path / url.partition(":")[0]
        folder.mkdir()
        stage = StagePlan(0, "interleaved", "closed", 600.0, 0.5, in_flight=12)
        spec = make_spec(folder, url=url)
        # A request takes a minute: none of the twelve is answered within the grace of one second.
        slow = {"baseline": Arm(url, "tiny", 3), "candidate": Arm(url, "tiny", 3)}
        with Generator(replace(spec, arms=slow), folder / "load.log") as generator:
            generator.start()
            generator.stage(stage)
            wait_for(generator, "stage_begun", 0)
            assert generator.events(0.5) == []
            generator.stop()
        samples = rows(folder)
        assert {s["status"] for s in samples} == {"cancelled"}
        assert len(samples) == 12


def test_a_server_that_dies_in_mid_run_leaves_refused_samples_and_no_exception(
    repository: Path, tmp_path: Path
) -> None:
    stage = StagePlan(0, "paired", "constant", 600.0, 0.5, rate=40.0)
    with EmbeddedServer(repository, tmp_path / "triton.log") as server:
        server.start({"tiny": [1, 2]})
        arms = {"baseline": Arm(server.grpc_url, "tiny", 1), "candidate": Arm(server.http_url, "tiny", 1)}
        spec = replace(make_spec(tmp_path), arms=arms)
        with Generator(spec, tmp_path / "load.log") as generator:
            generator.start()
            generator.stage(stage)
            until(lambda: len(rows(tmp_path)) > 20, "samples")
            os.kill(server.pid, signal.SIGKILL)
            until(lambda: all(refused(tmp_path, arm) > 5 for arm in arms), "refusals")
            generator.events()
            generator.stop()
    samples = rows(tmp_path)
    for arm in arms:
        statuses = [s["status"] for s in samples if s["arm"] == arm]
        assert statuses[0] == "ok"
        assert set(statuses) <= {"ok", "error", "refused"}
    refusals = [s for s in samples if s["status"] == "refused"]
    assert {s["code"] for s in refusals} <= {"UNAVAILABLE", "ECONNREFUSED"}
    assert {s["error"] for s in refusals if s["code"] == "ECONNREFUSED"} == {"server died"}


def refused(folder: Path, arm: str) -> int:
    return len([s for s in rows(folder) if s["arm"] == arm and s["status"] == "refused"])


def test_a_closed_loop_on_nothing_does_not_spin(tmp_path: Path) -> None:
    stage = StagePlan(0, "paired", "closed", 1.0, 0.5, in_flight=2)
    for url in ("grpc://127.0.0.1:1", "http://127.0.0.1:1"):
        folder = tmp_path / url.partition(":")[0]
        folder.mkdir()
        samples = drive(make_spec(folder, url=url), folder / "load.log", stage)
        assert {s["status"] for s in samples} == {"refused"}
        # Two slots, two arms, a pause of 50 ms a turn: 80 at most, give or take the ends.
        assert 4 <= len(samples) <= 88


def test_the_same_seed_gives_the_same_requests(triton: EmbeddedServer, tmp_path: Path) -> None:
    stage, seen = replace(OPEN_SPLIT, index=0), []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        spec = make_spec(folder, url=triton.grpc_url)
        samples = drive(spec, folder / "load.log", stage)
        begin = account(spec, stage)[0]
        seen.append({(s["pair_id"], s["request_id"], s["arm"], s["due_ns"] - begin) for s in samples})
    assert min(seen, key=len) <= max(seen, key=len), "one may have been held up at its end"


HARNESS = """
import sys, time
from pathlib import Path
from harness.load import Generator, LoadSpec
from harness.types import StagePlan
spec = LoadSpec.from_json(Path(sys.argv[1]).read_text())
generator = Generator(spec, spec.folder / "load.log")
generator.start()
generator.stage(StagePlan(0, "paired", "constant", 600.0, 0.5, rate=40.0))
print(generator.pid, flush=True)
time.sleep(600)
"""


def test_killed_with_its_harness_the_acknowledged_samples_are_readable(triton: EmbeddedServer, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, url=triton.grpc_url)
    (tmp_path / "spec.json").write_text(spec.to_json())
    with subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(tmp_path / "spec.json")], stdout=subprocess.PIPE, text=True
    ) as harness:
        assert harness.stdout is not None
        locust = psutil.Process(int(harness.stdout.readline()))
        until(lambda: len(rows(tmp_path)) > 20, "samples")
        acknowledged = len(rows(tmp_path))
        harness.send_signal(signal.SIGKILL)
    locust.wait(60)
    samples = rows(tmp_path)
    assert len(samples) >= acknowledged
    assert "ok" in {s["status"] for s in samples}


def test_a_locust_killed_alone_is_told_and_loses_nothing_acknowledged(triton: EmbeddedServer, tmp_path: Path) -> None:
    stage = StagePlan(0, "paired", "constant", 600.0, 0.5, rate=40.0)
    with Generator(make_spec(tmp_path, url=triton.grpc_url), tmp_path / "load.log") as generator:
        generator.start()
        generator.stage(stage)
        wait_for(generator, "stage_begun", 0)
        until(lambda: len(rows(tmp_path)) > 20, "samples")
        acknowledged = rows(tmp_path)
        assert generator.pid is not None
        os.kill(generator.pid, signal.SIGKILL)
        psutil.Process(generator.pid).wait(60)
        with pytest.raises(ServerDied, match="load generator ended by itself"):
            generator.events(30)
        with pytest.raises(ServerDied):
            generator.stage(stage)
    assert rows(tmp_path)[: len(acknowledged)] == acknowledged


def test_a_file_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "samples-0.arrow").touch()
    generator = Generator(make_spec(tmp_path), tmp_path / "load.log")
    with generator, pytest.raises(WorldError, match=r"samples-0\.arrow") as caught:
        generator.start()
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, ServerDied)


def test_a_disk_that_is_full_in_mid_run_is_told_and_ends_it(triton: EmbeddedServer, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    stage = StagePlan(0, "paired", "constant", 600.0, 0.5, rate=40.0)
    with Generator(make_spec(tmp_path, url=triton.grpc_url), tmp_path / "load.log") as generator:
        generator.start()
        assert generator.pid is not None
        locust = psutil.Process(generator.pid)
        locust.rlimit(psutil.RLIMIT_FSIZE, (40_000, 40_000))
        generator.stage(stage)
        wait_for(generator, "stage_begun", 0)
        until(lambda: len(rows(tmp_path)) > 0, "samples")
        with pytest.raises(WorldError, match=r"samples-0\.arrow: cannot be written") as caught:
            generator.events(60)
        assert not isinstance(caught.value, ServerDied)
        assert locust.wait(60) != 0
    assert rows(tmp_path), "what was acknowledged before stays readable"


def test_ctrl_c_is_the_harness_s_to_handle(triton: EmbeddedServer, tmp_path: Path) -> None:
    stage = StagePlan(0, "interleaved", "closed", 600.0, 0.5, in_flight=2)
    with Generator(make_spec(tmp_path, url=triton.grpc_url), tmp_path / "load.log") as generator:
        generator.start()
        generator.stage(stage)
        wait_for(generator, "stage_begun", 0)
        assert generator.pid is not None
        assert os.getpgid(generator.pid) != os.getpgid(0)
        os.kill(generator.pid, signal.SIGINT)
        before = len(rows(tmp_path))
        until(lambda: len(rows(tmp_path)) > before + 100, "samples")
        generator.stop()


def test_a_wrong_wish_starts_no_process(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, url="http://127.0.0.1:1", model=SMOLLM2, prompts=(Prompt("a"),))
    generator = Generator(spec, tmp_path / "load.log")
    with pytest.raises(UsageError, match="decoupled models stream over gRPC"):
        generator.start()
    assert generator.pid is None
    generator.kill()


@pytest.mark.weights
def test_a_language_model_is_compared_and_scored(tmp_path: Path) -> None:
    build_repository(tmp_path / "repository", {"smollm2": {1: "fp16", 2: "same"}})
    stages = (
        StagePlan(0, "paired", "closed", 4.0, 0.5, in_flight=1),
        StagePlan(1, "split", "constant", 2.0, 1.0, rate=1.0),
    )
    with EmbeddedServer(tmp_path / "repository", tmp_path / "triton.log") as server:
        server.start({"smollm2": [1, 2]})
        spec = make_spec(
            tmp_path,
            url=server.grpc_url,
            model=SMOLLM2,
            prompts=(Prompt("What is the capital of France?"),),
            max_tokens=4,
            logprobs_k=5,
            chunks=True,
        )
        samples = drive(spec, tmp_path / "load.log", *stages)
    assert {(s["status"], s["error"]) for s in samples} == {("ok", "")}
    plan = [s for s in samples if s["assignment"] == "plan"]
    score = [s for s in samples if s["assignment"] == "score"]
    assert len(plan) == len(score) >= 4
    assert {(s["osl"], s["finish_reason"]) for s in plan} == {(4, "length")}
    assert {s["finish_reason"] for s in score} == {"forced"}
    assert len({s["isl"] for s in samples}) == 1
    assert all(s["sent_ns"] < s["first_ns"] <= s["done_ns"] for s in plan)
    for pair_id in {s["pair_id"] for s in of_stage(plan, 0)}:
        done = max(s["done_ns"] for s in plan if s["pair_id"] == pair_id)
        assert all(s["sent_ns"] >= done for s in score if s["pair_id"] == pair_id), "scoring waits for the pair"
    outputs = rows(tmp_path, "outputs")
    by_kind = Counter((o["stage"], o["arm"], o["kind"]) for o in outputs)
    pairs = by_kind[0, "baseline", "generated"]
    assert pairs == by_kind[0, "candidate", "generated"] == by_kind[0, "baseline", "scored"]
    assert pairs == by_kind[0, "candidate", "scored"]
    assert by_kind[1, "candidate", "scored"] == 2
    first = outputs[0]["token_ids"]
    for output in outputs:
        assert output["token_ids"] == first, "the same build, forced or free"
        assert (output["k"], len(output["topk_ids"]), len(output["topk_logprobs"])) == (5, 20, 20)
    last_pair = max(s["pair_id"] for s in of_stage(plan, 0))
    assert {o["pair_id"] for o in outputs if o["stage"] == 1 and o["kind"] == "scored"} == {last_pair}
    chunks = rows(tmp_path, "chunks")
    assert len(chunks) == sum(s["osl"] for s in plan)
