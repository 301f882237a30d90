"""The campaign on a GPU keeps to its budget, survives its steps, and publishes nothing that was not measured."""

from __future__ import annotations

import json
import math
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.campaigns import examples
from tests.campaigns.gpu import __main__ as campaign
from tests.campaigns.gpu import keep
from tests.campaigns.gpu.steps import (
    STEPS,
    Step,
    canary,
    chosen,
    coupling,
    facts,
    kernels,
    kl,
    long,
    memory,
    packing,
    sampler,
    speed,
    table,
    verdicts,
)
from tests.campaigns.gpu.steps.place import ROOT, Place
from tests.waiting import until

# `begun.txt`: who was begun, a line each. `hangs` leaves what it has and does not end, whoever asks it to.
MADE_UP = """
import json, os, signal, sys, time
from pathlib import Path
from typing import Any

folder = Path(sys.argv[sys.argv.index("--folder") + 1])
name = sys.argv[sys.argv.index("--name") + 1]
with Path(os.environ["BEGUN"]).open("a") as begun:
    begun.write(f"{name}\\n")
if name == "hangs":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "found.json").write_text(json.dumps({"done": False, "found": {"half": 1, "pid": os.getpid()}}))
    while True:
        time.sleep(1)
from tests.campaigns.gpu.steps.place import main

def measure(place):
    if name == "fails":
        place.save({"half": 2})
        raise ValueError("the third wheel came off")
    run = folder / "20260101T000000Z-made-up"
    run.mkdir()
    (run / "report.md").write_text(f"{name} lay in {run}/models of {Path.cwd()}/x")
    (run / "verdict.json").write_text("{}")
    (run / "samples.parquet").write_text("not kept")
    place.keep(run, name)
    return {"name": name, "rehearsed": place.rehearsed}

main(measure)
"""

Run = Callable[..., int]


def step(name: str, expected_s: float = 0.0) -> Step:
    return Step(name, "made_up", expected_s, f"a step that {name}")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "made_up.py").write_text(MADE_UP)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "BEGUN": str(tmp_path / "begun.txt")}

    def carried_out(*steps: Step, budget_s: float = 300.0, rehearsed: bool = True, **more: bool) -> int:
        return campaign.campaign(
            steps, tmp_path / "out", tmp_path / "work", budget_s, rehearsed=rehearsed, environment=environment, **more
        )

    return carried_out


def begun(tmp_path: Path) -> list[str]:
    path = tmp_path / "begun.txt"
    return path.read_text().split() if path.exists() else []


def results(tmp_path: Path) -> dict[str, packing.Entry]:
    return packing.read_results(tmp_path / "out")


def test_what_is_done_is_not_done_again(run: Run, tmp_path: Path) -> None:
    assert run(step("first"), step("second")) == 0
    assert run(step("first"), step("second"), step("third")) == 0
    assert begun(tmp_path) == ["first", "second", "third"]
    assert run(step("first"), again=True) == 0
    assert begun(tmp_path)[3:] == ["first"]
    found = results(tmp_path)
    assert [(name, entry["state"]) for name, entry in found.items()] == [
        ("first", "done"), ("second", "done"), ("third", "done"),
    ]  # fmt: skip
    assert found["third"]["found"] == {"name": "third", "rehearsed": True}
    assert found["third"]["machine"]["software"]["numpy"] == np.__version__


def test_a_step_that_fails_leaves_why_and_what_it_had_and_the_others_go_on(run: Run, tmp_path: Path) -> None:
    assert run(step("fails"), step("good")) == 1
    found = results(tmp_path)
    assert found["fails"]["state"] == "failed"
    assert found["fails"]["error"].splitlines()[-1] == "ValueError: the third wheel came off"
    assert found["fails"]["found"] == {"half": 2}
    assert found["good"]["state"] == "done"
    with tarfile.open(tmp_path / "out" / packing.PAGES) as tar:
        log = tar.extractfile("logs/fails.txt")
        assert log
        assert b"the third wheel came off" in log.read()
    run(step("fails"), step("good"), step("new"))
    assert begun(tmp_path) == ["fails", "good", "new", "fails"], "it is tried again, once the others had their turn"


def test_a_step_that_hangs_is_cut_and_the_others_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had time to begin; that it has not ended then is sure."""
    monkeypatch.setattr(campaign, "SLOWER", 1.0)
    monkeypatch.setattr(campaign, "END_S", 0.5)
    monkeypatch.setattr(Step, "limit_s", property(lambda self: 5.0 if self.name == "hangs" else 300.0))
    assert run(step("hangs"), step("good")) == 1
    found = results(tmp_path)
    assert found["hangs"]["state"] == "cut"
    assert found["hangs"]["error"].startswith("cut after 5 s")
    assert found["hangs"]["found"]["half"] == 1
    assert found["good"]["state"] == "done"
    until(lambda: not Path(f"/proc/{found['hangs']['found']['pid']}").exists(), "the hanging process is gone")


def test_no_step_is_begun_that_would_not_be_through(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(step("long", 1000.0), step("short", 1.0)) == 0
    assert begun(tmp_path) == ["short"]
    assert json.loads(capsys.readouterr().out)["steps"] == {
        "long": "not begun: 300 s left, 1000 s expected", "short": "done",
    }  # fmt: skip


def test_pages_come_back_in_few_files_and_say_nothing_of_where_they_lay(run: Run, tmp_path: Path) -> None:
    run(*(step(f"number-{number}") for number in range(6)))
    out = tmp_path / "out"
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) <= packing.MOST_FILES
    assert all(len(path.relative_to(out).parts) <= 2 for path in files)
    packing.unpack(out / packing.PAGES, tmp_path / "unpacked")
    pages = tmp_path / "unpacked" / "pages"
    assert {path.name for path in pages.iterdir()} == {f"number-{number}" for number in range(6)}
    assert (pages / "number-3" / "report.md").read_text() == "number-3 lay in models of x"
    assert not list(pages.rglob("samples.parquet"))


def test_a_campaign_goes_on_elsewhere_in_a_copy_of_what_came_back(run: Run, tmp_path: Path) -> None:
    run(step("first"))
    (tmp_path / "out").rename(tmp_path / "carried")
    (tmp_path / "carried").rename(tmp_path / "out")
    run(step("first"), step("second"))
    with tarfile.open(tmp_path / "out" / packing.PAGES) as tar:
        assert {name for name in tar.getnames() if name.endswith("report.md")} == {
            "pages/first/report.md", "pages/second/report.md",
        }  # fmt: skip


def test_what_does_not_fit_is_left_out_largest_first_but_never_a_verdict(tmp_path: Path) -> None:
    noise = np.random.default_rng(1)
    folder = tmp_path / "step"
    for name, size in (("a", 30_000), ("b", 60_000), ("c", 10_000)):
        (folder / "pages" / name).mkdir(parents=True)
        (folder / "pages" / name / "report.html").write_bytes(noise.bytes(size))
        (folder / "pages" / name / "verdict.json").write_bytes(noise.bytes(2000))
    brought = packing.Brought(tmp_path / "out", tmp_path / "shelf", rehearsed=True, most_bytes=55_000)
    brought.add("a", {"rehearsed": True}, folder)
    packed = tmp_path / "out" / packing.PAGES
    assert packed.stat().st_size <= 55_000
    with tarfile.open(packed) as tar:
        names = set(tar.getnames())
    assert names == {*(f"pages/{name}/verdict.json" for name in "abc"), "pages/a/report.html", "pages/c/report.html"}
    assert results(tmp_path)["a"]["left_out"] == ["pages/b/report.html"]


def test_rehearsed_and_measured_results_never_lie_together(run: Run, tmp_path: Path) -> None:
    run(step("first"))
    with pytest.raises(SystemExit, match="holds rehearsed results"):
        run(step("second"), rehearsed=False)
    assert begun(tmp_path) == ["first"]


def test_unknown_steps_are_told() -> None:
    assert [each.name for each in chosen(["kl", "facts"])] == ["kl", "facts"]
    assert chosen([]) == STEPS
    with pytest.raises(SystemExit, match="unknown step kll: known are facts"):
        chosen(["kll"])


# ---------------------------------------------------------------- what is published


def entry(utc: str = "2026-01-01T00:00:00+00:00", state: str = "done", **more: object) -> packing.Entry:
    machine = {
        "gpus": [{"name": "NVIDIA H200", "memory_bytes": 150_754_820_096, "driver": "580.1", "cuda": "13.0"}],
        "cpu": "a CPU", "threads": 16, "software": {"torch": "2.11.0"},
    }  # fmt: skip
    return {
        "state": state, "rehearsed": False, "utc": utc, "machine": machine, "roots": ["/tmp/there", "/there"],
        "error": "", "found": {}, **more,
    }  # fmt: skip


def came_back(folder: Path, **entries: packing.Entry) -> Path:
    folder.mkdir(parents=True)
    (folder / packing.RESULTS).write_text(json.dumps(entries))
    return folder


SAMPLED = {
    "loads": {
        "tiny": {
            "blocks": [{"read": read, "latency_ms": 2.0 + read, "answered": 100.0} for read in (False, True)],
            "ratio": {"ratio": 1.5, "low": 1.4, "high": 1.6},
        }
    }
}  # fmt: skip


def test_rehearsed_results_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    target = tmp_path / "examples"
    target.mkdir()
    came_back(tmp_path / "back" / "good", sampler=entry(found=SAMPLED))
    came_back(tmp_path / "back" / "rehearsed", memory=entry(rehearsed=True))
    with pytest.raises(SystemExit, match="never published"):
        keep.keep([tmp_path / "back"], target)
    with pytest.raises(SystemExit, match=r"no results\.json there"):
        keep.keep([target], target)
    assert list(target.iterdir()) == []


def test_sessions_are_merged_and_the_page_says_what_is_missing(tmp_path: Path) -> None:
    target = tmp_path / "examples"
    target.mkdir()
    failed = entry(
        "2026-01-03T00:00:00+00:00", "failed", error="exit code 1\nSystemExit: /tmp/there/sampler/x is no file"
    )
    one = came_back(tmp_path / "one", sampler=entry(found=SAMPLED), coupling=failed)
    keep.keep([one], target)
    two = came_back(tmp_path / "two", sampler=failed)
    kept = keep.keep([two], target)
    assert kept["sampler"]["found"] == SAMPLED, "a later failure takes nothing away"
    text = (target / keep.PAGE).read_text()
    assert "NVIDIA H200 (140 GiB, driver 580.1, CUDA 13.0)" in text
    assert "| `tiny` | 2 | 100 | 2.000 ms | 3.000 ms | 1.5000 | 1.4000 to 1.6000 |" in text
    assert "Not measured: the step was begun, and failed: SystemExit: sampler/x is no file." in text
    for each in STEPS:
        assert (f"- `{each.name}`: {each.what}" in text) == (each.name not in ("sampler", "coupling"))
    assert "/tmp/" not in (target / keep.DATA).read_text()


def test_pages_of_runs_come_along_and_none_tells_of_its_machine(tmp_path: Path) -> None:
    target = tmp_path / "examples"
    target.mkdir()
    folder = came_back(tmp_path / "back", multi=entry(found={
        "verdict": "promote", "reason": "fine", "seconds": 9.0, "set": [], "findings": [], "beside": {},
    }))  # fmt: skip
    page = tmp_path / "pages" / "multi" / "report.md"
    page.parent.mkdir(parents=True)

    def pack(text: str) -> None:
        page.write_text(text)
        with tarfile.open(folder / packing.PAGES, "w:gz") as tar:
            tar.add(tmp_path / "pages", arcname="pages")

    pack("told of /tmp/there/multi/x")
    keep.keep([folder], target)
    assert (target / "gpu-multi" / "report.md").read_text() == "told of multi/x"
    (target / keep.DATA).unlink()
    pack("told of /tmp/elsewhere")
    with pytest.raises(SystemExit, match="would tell of its machine"):
        keep.keep([folder], target)


def test_without_anything_measured_the_page_says_so_and_shows_no_number() -> None:
    text = keep.page({})
    assert "Nothing has been measured on a GPU yet" in text
    assert all(f"- `{each.name}`: {each.what}" in text.partition("## Not measured yet")[2] for each in STEPS)
    assert "|" not in text, "no table"


def test_the_page_in_the_repository_is_that_of_its_data() -> None:
    kept = json.loads((examples.EXAMPLES / keep.DATA).read_text())
    assert (examples.EXAMPLES / keep.PAGE).read_text() == keep.page(kept)
    assert not any(found["rehearsed"] for found in kept.values())


def test_the_docs_have_the_table_of_steps() -> None:
    text = (ROOT / "docs" / "gpu.md").read_text()
    assert table() in text
    assert set(keep.TITLES) == {*(each.name for each in STEPS), "kl-cpu"}


# ---------------------------------------------------------------- what the steps compute


def test_no_step_can_take_less_than_its_bytes_and_its_arithmetic() -> None:
    from harness.embedded.llama.shapes import SHAPES

    shape = SHAPES["7b"]
    limits = {"copy_bytes_s": 4e12, "rates": [{"kind": "fp16", "flops_s": 7e14}, {"kind": "fp8", "flops_s": 1.4e15}]}
    assert speed.bound_ms(shape, "fp16", 1, 0, limits) == pytest.approx(2 * shape.weights / 4e12 * 1e3, rel=0.01)
    assert speed.bound_ms(shape, "fp8", 1, 0, limits) == pytest.approx(shape.weights / 4e12 * 1e3, rel=0.05)
    assert speed.bound_ms(shape, "fp16", 4096, 0, limits) == pytest.approx(shape.step_flops(4096) / 7e14 * 1e3)
    assert speed.bound_ms(shape, "fp8", 4096, 0, limits) == pytest.approx(
        shape.step_flops(4096) / 1.4e15 * 1e3, rel=0.05
    )


def test_kl_is_that_of_the_formula() -> None:
    torch = pytest.importorskip("torch")
    p, q = (
        torch.log_softmax(torch.randn(5, 40, generator=torch.manual_seed(n), dtype=torch.float64), 1) for n in (1, 2)
    )
    same, other = kl.about(p, p), kl.about(p, q)
    assert same == {"kl": 0.0, "kl10": 0.0, "top1": 0.0}
    wanted = np.mean([sum(math.exp(a) * (a - b) for a, b in zip(x, y, strict=True)) for x, y in zip(p, q, strict=True)])
    assert other["kl"] == pytest.approx(wanted)
    assert 0 < other["kl10"] < other["kl"], "joining outcomes never adds to it"
    assert other["top1"] == float((p.argmax(1) != q.argmax(1)).double().mean())


def test_neighbours_of_both_kinds_are_compared_whichever_came_first() -> None:
    found = sampler.ratio([10.0, 11.0, 22.0, 20.0, 5.0, 5.5], [False, True, True, False, False, True])
    assert found["ratio"] == pytest.approx(1.1)
    assert found["low"] == pytest.approx(1.1)
    assert found["pairs"] == 3
    noisy = sampler.ratio([10.0, 12.0, 20.0, 20.0], [False, True, True, False])
    assert noisy["low"] < 1 < noisy["ratio"] < noisy["high"]


def test_a_page_that_is_late_differs_only_where_memory_had_just_changed() -> None:
    nvml = [(t / 10, 100.0 if t < 50 else 200.0) for t in range(100)]
    page = [(t + 0.01, 100.0 if t < 6 else 202.0) for t in range(10)]
    found = memory.compare(nvml, page, old_s=2.0)
    assert found["any"] == found["steady"] == pytest.approx(0.01)
    assert found["moments"] == 8, "of the first two it is not known what was before"
    assert 4 <= found["steady_moments"] < 8
    assert memory.compare(nvml, [])["any"] is None


def test_a_small_gpu_keeps_only_what_names_no_card() -> None:
    said = """
    Product Name                          : NVIDIA H200
    Serial Number                         : 1234
    GPU UUID                              : GPU-1
    Driver Version                        : 580.1
    """
    assert facts.excerpt(said) == ["Product Name : NVIDIA H200", "Driver Version : 580.1"]


def test_scenarios_of_the_campaign_are_scenarios(tmp_path: Path) -> None:
    from harness.scenario import load

    for name, kv in (("long-fp16", "fp16"), ("long-fp8", "fp8")):
        for rehearsed in (False, True):
            path = tmp_path / f"{name}.yaml"
            path.write_text(long.scenario(name, kv, rehearsed=rehearsed))
            assert load(path).name == name
    for mode in verdicts.MODES:
        path = tmp_path / "verdict.yaml"
        path.write_text(verdicts.SCENARIO.format(
            name="x", mode=mode, model="smollm2", url="grpc://127.0.0.1:1", version=2,
            prompts=ROOT / "scenarios/prompts/questions.jsonl", seconds=25,
        ))  # fmt: skip
        assert load(path).stages[0].mode == mode


def test_tables_hold_what_was_found() -> None:
    row = {"answered": 9.0, "failed": 0.0, "ttft_ms": 2.0, "tpot_ms": 4.0}
    rows = [{"model": "llama", "weights": "fp8", "in_flight": 8, "other": other, **row} for other in ("idle", "busy")]
    rows[1]["tpot_ms"] = 6.0
    assert coupling.lines({"rows": rows, "large": "7b"})[-1] == (
        "| llama 7b | fp8 | 8 | 2.00 ms | 2.00 ms | 1.00 | 4.00 ms | 6.00 ms | 1.50 |"
    )
    timed = {"shape": "7b", "batch": 4, "ms": 3.0, "wall_ms": 3.5, "bound_ms": 2.0, "graph_ms": 2.9}
    steps = [{**timed, "weights": "fp16"}, {**timed, "weights": "fp8", "ms": 1.8, "bound_ms": 1.0}]
    limits = {"copy_bytes_s": 4e12, "rates": [{"kind": "fp16", "flops_s": 7e14, "width": 8192}]}
    text = speed.lines({"limits": limits, "short": 64, "prompt": 2048, "steps": steps, "prefill": []})
    assert "| 4 | 3.000 | 2.000 | 1.800 | 1.000 | 0.60 | 0.50 | 3.500 | 3.500 |" in text
    run = {"findings": [{"metric": "tpot.p50", "effect": 1.3}], "stages": [{"requests": 40, "seconds": 9.0}]}
    told = [{"against": "slow", "mode": "paired", "verdict": "rollback", **run},
            {"against": "same", "mode": "paired", "verdict": "rollback", **run}]  # fmt: skip
    assert " | +30.0 % | " in verdicts.lines({"runs": told})[-1]
    assert [line.split(" | ")[-1] for line in verdicts.lines({"runs": told})[-2:]] == ["yes |", "NO |"]
    checked = {"agree": [{"operation": "quantise", "wrong": "by 2"}], "captured_wrong": "", "times": []}
    assert kernels.lines(checked)[-1] == "- quantise: by 2"
    edge = {"metric": "memory.edge", "effect": 1010.0, "interval": [990.0, 1010.0]}
    assert long.edge({"findings": [edge]})[0].endswith("foretold 1010, +1.0 % off.")


def test_pages_do_not_say_which_card_it_was(tmp_path: Path) -> None:
    run = tmp_path / "20260101T000000Z-x"
    run.mkdir()
    (run / "run.json").write_text('{"uuid": "GPU-5fd4f087-86f3-7a43-b711-4771313afc50"}')
    Place("demo", tmp_path / "step", rehearsed=False).keep(run, "demo")
    assert (tmp_path / "step" / "pages" / "demo" / "run.json").read_text() == '{"uuid": "GPU-0"}'


@pytest.mark.parametrize("embedded", [True, False])
def test_a_run_whose_own_models_were_on_the_cpu_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded: bool
) -> None:
    """On a server that runs already, nobody says where they are: the step has asked."""

    def ran(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--out") + 1]) / "20260101T000000Z-x"
        folder.mkdir(parents=True)
        return subprocess.CompletedProcess(command, 0, "", "the models run on the CPU: no NVIDIA GPU here")

    monkeypatch.setattr(canary.subprocess, "run", ran)
    monkeypatch.setattr(canary, "_told", lambda _: {"verdict": "promote"})
    place = Place("demo", tmp_path / "step", rehearsed=False)
    if embedded:
        with pytest.raises(SystemExit, match="the models did not run on the GPU"):
            canary.run(place, "x", [])
    else:
        assert canary.run(place, "x", [], embedded=False)["verdict"] == "promote"
