"""A run that died goes on where that is sound, and says why where it is not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from harness.errors import UsageError, WorldError
from harness.judge import Evidence, judge_stage
from harness.recording import SCHEMAS, Recording, StreamWriter, read_meta, stage_records, stream_path
from harness.run.folder import RunFolder
from harness.run.journal import Journal
from harness.run.resume import Carried, asked, completed, go_on, readings_path
from harness.run.served import differences
from harness.run.setting import describe
from harness.scenario import Scenario, load, plan
from harness.types import StagePlan, StageRecord

SCENARIO = """
name: died
target: {url: "grpc://127.0.0.1:9"}
baseline: {model: tiny, version: 1}
candidate: {model: tiny, version: 2}
gates:
  - {metric: errors, margin: 10pp}
  - {metric: response_time.p50, margin: 50%}
stages:
  - {mode: paired, rate: 50/s, for: 4s}
  - {mode: split, candidate: 20%, rate: 50/s, for: 4s}
  - {mode: split, candidate: 100%, rate: 50/s, for: 4s}
"""
SERVED: dict[str, Any] = {
    name: {
        "url": "grpc://127.0.0.1:9", "model": "tiny", "version": version, "server": "triton 2.60.0",
        "metadata": "m", "config": "c", "files": "f", "answered": 7,
    }
    for name, version in (("baseline", 1), ("candidate", 2))
}  # fmt: skip
S = 1_000_000_000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def scenario_of(tmp_path: Path, text: str = SCENARIO, *overrides: str) -> Scenario:
    path = tmp_path / "died.yaml"
    path.write_text(text)
    found = load(path, overrides)
    assert isinstance(found, Scenario)
    return found


def about(scenario: Scenario) -> dict[str, Any]:
    return {**describe(scenario), "asked": asked(scenario)}


def sample(arm: str, stage: int, number: int, due_ns: int, *, fails: bool = False) -> tuple[Any, ...]:
    done_ns = due_ns + 5_000_000 + random.Random(f"{arm} {number}").randrange(1_000_000)
    version = {"baseline": "1", "candidate": "2"}[arm]
    status = "error" if fails else "ok"
    return (
        arm, stage, stage << 32 | number, "", "", "plan", due_ns, due_ns, -1, done_ns, status, "x" if fails else "",
        "", "", "s", "tiny", version, -1, -1, 0,
    )  # fmt: skip


def write(path: Path, name: str, rows: list[tuple[Any, ...]]) -> None:
    with StreamWriter(path, SCHEMAS[name]) as writer:
        for row in rows:
            writer.append(row)


def died(scenario: Scenario, out: Path, *, ended: int = 2, failing: int | None = None, pause_s: int = 0) -> Path:
    """The folder of a run that was killed in its last stage; `ended`: stages that came to their end; `pause_s`: between
    them and the last.
    """
    folder = RunFolder.create(out, "died", about(scenario))
    records, rows = [], []
    for stage in plan(scenario).stages[: ended + 1]:
        whole = stage.index < ended
        begin = (1 + 5 * stage.index + (0 if whole else pause_s)) * S
        records.append(StageRecord(stage, begin, end_ns=begin + 4 * S + S // 10 if whole else None))
        for number in range(200 if whole else 60):
            due = begin + number * S // 50
            share = stage.candidate_share
            arms = ["baseline", "candidate"] if stage.mode == "paired" else [
                "candidate" if share == 1 or number % 5 == 0 else "baseline"
            ]  # fmt: skip
            fails = failing == stage.index
            rows += [sample(arm, stage.index, number, due, fails=fails and arm == "candidate") for arm in arms]
    readings = [(second * S, "host", "host", "cpu.utilization", 0.1, "ratio") for second in range(14)]
    write(stream_path(folder.path, "samples", 0), "samples", rows)
    write(stream_path(folder.path, "readings"), "readings", readings)
    write(stream_path(folder.path, "scores"), "scores", [(0, 1, "baseline", "exact", 1.0, "")])
    write(stream_path(folder.path, "chunks", 0), "chunks", [(1, "baseline", S), (2 << 32 | 1, "candidate", 12 * S)])
    folder.meta |= {
        "served": SERVED, "workers": [{"worker": 0, "host": "h", "local": True, "lost_ns": None}],
        "arms": {name: {key: arm[key] for key in ("url", "model", "version")} for name, arm in SERVED.items()},
    }  # fmt: skip
    started = datetime.now(UTC) - timedelta(seconds=100)
    folder.meta["started_utc"] = started.isoformat(timespec="seconds")
    folder.set_stages(records)
    return folder.path


def test_what_was_completed_counts_and_is_judged_as_it_was(tmp_path: Path) -> None:
    scenario, lines = scenario_of(tmp_path), list[str]()
    old = died(scenario, tmp_path / "out")
    carried = go_on(old, scenario, about(scenario), lines.append)
    assert carried.done == 2
    assert [verdict.verdict for verdict in carried.verdicts] == ["promote", "promote"]
    assert 60 < carried.break_s < 600
    assert f"{old}: 2 of 3 stages count; going on after a break of" in lines[-1]
    new = RunFolder.create(tmp_path / "out", "died", about(scenario))
    carried.into(new)
    new.meta |= {key: read_meta(old)[key] for key in ("arms", "workers")}
    new.save()
    before, after = Recording.open(old), Recording.open(new.path)
    ended_ns = stage_records(before.meta)[1].end_ns
    assert ended_ns is not None
    assert carried.offset_ns > ended_ns + 5 * S
    assert set(after.samples["stage"].to_pylist()) == {0, 1}
    assert after.samples.equals(before.samples.filter(pa.compute.less(before.samples["stage"], 2)))
    assert after.chunks is not None
    assert after.chunks["pair_id"].to_pylist() == [1]
    assert after.scores is not None
    assert after.scores.num_rows == 1
    assert after.readings is not None
    assert max(after.readings["t_ns"].to_pylist()) < carried.offset_ns
    assert after.meta["resumed"] == {
        "from": old.name, "stages": 2, "offset_ns": carried.offset_ns, "break_s": round(carried.break_s),
    }  # fmt: skip
    for index in (0, 1):
        assert judge_stage(Evidence.of(after), index) == judge_stage(Evidence.of(before), index)


def test_whether_an_arm_served_again_is_carried_however_late_it_was_known(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path)
    old = died(scenario, tmp_path / "out", pause_s=20)
    known = [
        (time_s * S, "server", "candidate", "recovered", 1.0, "1") for time_s in (22, 33)
    ]  # the last is a later one's
    write(stream_path(old, "readings", 3), "readings", known)
    carried = go_on(old, scenario, about(scenario), lambda _: None)
    new = RunFolder.create(tmp_path / "out", "died", about(scenario))
    carried.into(new)
    new.meta |= {key: read_meta(old)[key] for key in ("arms", "workers")}
    new.save()
    before, after = Recording.open(old), Recording.open(new.path)
    findings = judge_stage(Evidence.of(after), 1).findings
    assert findings == judge_stage(Evidence.of(before), 1).findings
    assert "recovery" in {each.metric for each in findings}
    assert carried.offset_ns < 33 * S


def test_the_new_runs_own_rows_come_behind(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path)
    carried = go_on(died(scenario, tmp_path / "out"), scenario, about(scenario), lambda _: None)
    new = RunFolder.create(tmp_path / "out", "died", about(scenario))
    carried.into(new)
    later = carried.offset_ns + S
    write(readings_path(new.path, carried), "readings", [(later, "host", "host", "cpu.utilization", 0.2, "ratio")])
    write(stream_path(new.path, "samples", 0), "samples", [sample("candidate", 2, 1, later)])
    write(stream_path(new.path, "scores"), "scores", [(2, 1, "candidate", "exact", 1.0, "")])
    found = Recording.open(new.path)
    assert found.readings is not None
    assert found.readings["t_ns"].to_pylist() == sorted(found.readings["t_ns"].to_pylist())
    assert found.readings["t_ns"].to_pylist()[-1] == later
    assert found.samples["stage"].to_pylist()[-1] == 2
    assert found.scores is not None
    assert found.scores.num_rows == 2
    assert readings_path(new.path, None) == stream_path(new.path, "readings")


def test_a_resumed_run_that_dies_is_resumed(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path)
    first = go_on(died(scenario, tmp_path / "out", ended=1), scenario, about(scenario), lambda _: None)
    assert first.done == 1
    new = RunFolder.create(tmp_path / "out", "died", about(scenario))
    first.into(new)
    later = first.offset_ns + S
    stage = plan(scenario).stages[1]
    arms = ["candidate" if n % 5 == 0 else "baseline" for n in range(200)]
    write(
        stream_path(new.path, "samples", 0), "samples",
        [sample(arm, 1, n, later + n * S // 50) for n, arm in enumerate(arms)],
    )  # fmt: skip
    new.meta |= {"served": SERVED, "workers": [], "arms": read_meta(first.folder)["arms"]}
    new.set_stages([*first.stages, StageRecord(stage, later, end_ns=later + 4 * S)])
    second = go_on(new.path, scenario, about(scenario), lambda _: None)
    assert second.done == 2
    assert second.break_s < 60, "counted from the new run's own clock"


Edit = Callable[[dict[str, Any]], None]
REFUSED: dict[str, tuple[Edit, str]] = {
    "seed": (lambda meta: meta.update(seed=5), "seed was 5, now it is 1"),
    "scenario": (
        lambda meta: meta["scenario"]["stages"][1].update(candidate="30%"), "scenario.stages.1.candidate was",
    ),
    "gates": (lambda meta: meta["gates"][0].update(margin=0.5), "gates.0.margin was 0.5, now it is 0.1"),
    "prompts": (lambda meta: meta["prompts"].update(sha256="x"), 'prompts.sha256 was "x", now'),
    "asked": (lambda meta: meta.pop("asked"), "asked was null, now it is"),
    "software": (lambda meta: meta["software"].update(grpcio="0.1"), 'software.grpcio was "0.1", now it is'),
    "host": (lambda meta: meta["host"].update(cpu="another"), 'host.cpu was "another", now it is'),
    "remote": (lambda meta: meta["workers"][0].update(local=False), "its load came from another host, h"),
    "lost": (lambda meta: meta["workers"][0].update(lost_ns=5), "it had lost load worker 0"),
    "served": (lambda meta: meta.pop("served"), "it died before it had noted what serves"),
    "old": (
        lambda meta: meta.update(started_utc=(datetime.now(UTC) - timedelta(hours=30)).isoformat()),
        "its last completed stage ended 30 h ago, and a day is the most",
    ),
    "future": (
        lambda meta: meta.update(started_utc=(datetime.now(UTC) + timedelta(hours=1)).isoformat()),
        "by this machine's clock its last stage ends in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_the_same_is_refused_in_a_line(tmp_path: Path, what: str) -> None:
    edit, reason = REFUSED[what]
    scenario = scenario_of(tmp_path)
    old = died(scenario, tmp_path / "out")
    meta = read_meta(old)
    edit(meta)
    (old / "run.json").write_text(json.dumps(meta))
    with pytest.raises(UsageError) as caught:
        go_on(old, scenario, about(scenario), lambda _: None)
    assert str(caught.value).startswith(f"{old}: cannot be resumed: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_that_came_to_its_end_is_not_resumed(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path)
    old = died(scenario, tmp_path / "out")
    with Journal(old).action("run.end", "died", wanted="promote"):
        pass
    with pytest.raises(UsageError, match="it came to its own end"):
        go_on(old, scenario, about(scenario), lambda _: None)


def test_a_stage_that_did_not_say_promote_is_not_passed_over(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path)
    old = died(scenario, tmp_path / "out", failing=1)
    with pytest.raises(UsageError, match="stage 2 said rollback"):
        go_on(old, scenario, about(scenario), lambda _: None)


def test_no_stage_no_resume(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path)
    old = died(scenario, tmp_path / "out", ended=0)
    with pytest.raises(UsageError, match="no stage of it had come to its end"):
        go_on(old, scenario, about(scenario), lambda _: None)
    with pytest.raises(UsageError, match=r"no run\.json there"):
        go_on(tmp_path, scenario, about(scenario), lambda _: None)


def test_an_embedded_server_ended_with_its_run(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path)
    old = died(scenario, tmp_path / "out")
    text = SCENARIO.replace('{url: "grpc://127.0.0.1:9"}', "{server: embedded}")
    with pytest.raises(UsageError, match="its embedded Triton ended with it"):
        go_on(old, scenario_of(tmp_path, text), about(scenario), lambda _: None)


def test_what_cannot_be_put_back_cannot_be_resumed(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path)
    old = died(scenario, tmp_path / "out")
    with Journal(old).action("models.set", "grpc://127.0.0.1:9/tiny", before=[1], wanted=[1, 2]):
        pass
    with pytest.raises(WorldError, match=r"NOT PUT BACK: models.set grpc://127.0.0.1:9/tiny: .*triton-canary recover"):
        go_on(old, scenario, about(scenario), lambda _: None)


def carried_of(tmp_path: Path) -> Carried:
    scenario = scenario_of(tmp_path)
    return go_on(died(scenario, tmp_path / "out"), scenario, about(scenario), lambda _: None)


def test_what_serves_must_be_what_served(tmp_path: Path) -> None:
    carried = carried_of(tmp_path)
    asked_of_baseline = 200 + 160
    now = json.loads(json.dumps(SERVED))
    now["baseline"]["answered"] += asked_of_baseline
    carried.check(now)
    now["baseline"]["answered"] -= 1
    with pytest.raises(UsageError, match=r"tiny version 1 was loaded again: it had answered 367 .* 366 now"):
        carried.check(now)


@pytest.mark.parametrize(
    ("arm", "change", "said"),
    [
        ("baseline", {"server": "triton 2.61.0"}, "the Triton there (baseline, tiny version 1) changed: triton 2.60.0"),
        ("candidate", {"files": "x"}, "its files (candidate, tiny version 2) changed"),
        ("candidate", {"config": "x"}, "its configuration (candidate, tiny version 2) changed"),
        ("baseline", {"metadata": "x"}, "what it says of its inputs and outputs (baseline, tiny version 1) changed"),
        ("candidate", None, "what serves the candidate is not known of both moments"),
        ("baseline", {"answered": 0}, "tiny version 1 was loaded again"),
    ],
)
def test_each_difference_has_its_line(arm: str, change: dict[str, Any] | None, said: str) -> None:
    now = json.loads(json.dumps(SERVED))
    now[arm] = None if change is None else {**now[arm], **change}
    (line,) = differences(SERVED, now)
    assert said in line
    assert differences(SERVED, SERVED) == []


def stages(*kinds: Any) -> tuple[StagePlan, ...]:
    """compare unless it says otherwise; a pair (n, of) is a period of a sequential stage."""
    plans = []
    for index, kind in enumerate(kinds):
        one = StagePlan(index, "paired", "closed", 1.0, 0.5, 1)
        if isinstance(kind, tuple):
            one = replace(one, mode="sequential", period=kind[0], periods=kind[1])
        else:
            one = replace(one, purpose=kind)
        plans.append(one)
    return tuple(plans)


C, W, A, K = "compare", "warm-up", "alone", "soak"


@pytest.mark.parametrize(
    ("kinds", "ended", "done"),
    [
        ((C, C, C), 0, 0),
        ((C, C, C), 2, 2),
        ((C, C, C), 3, 2),  # the last one sets the traffic
        ((C, C, K), 3, 2),
        ((W, C, C), 1, 0),
        ((W, A, C, C), 2, 0),
        ((C, W, C, C), 2, 1),
        ((C, W, C, C), 3, 3),
        (((1, 4), (2, 4), (3, 4), (4, 4), C), 3, 0),
        (((1, 4), (2, 4), (3, 4), (4, 4), C), 4, 4),
        ((C, (1, 2), (2, 2), C), 2, 1),
    ],
)
def test_which_stages_need_not_be_carried_out_again(kinds: tuple[Any, ...], ended: int, done: int) -> None:
    plans = stages(*kinds)
    records = [StageRecord(one, one.index * S, (one.index + 1) * S if one.index < ended else None) for one in plans]
    assert completed(records[: ended + 1], plans) == done


def test_other_inputs_and_scorers_are_seen(tmp_path: Path) -> None:
    scorer = tmp_path / "scorer.py"
    scorer.write_text("def score(prompt, answer, expected): return 1.0\n")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a", "expected": "b"}\n')
    text = SCENARIO + "load: {prompts: prompts.jsonl}\nscorers: {own: {use: 'scorer.py:score'}}\n"
    first = asked(scenario_of(tmp_path, text))
    assert asked(scenario_of(tmp_path, text)) == first
    scorer.write_text("def score(prompt, answer, expected): return 0.5\n")
    second = asked(scenario_of(tmp_path, text))
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a", "expected": "c"}\n')
    third = asked(scenario_of(tmp_path, text))
    assert len({first, second, third}) == 3
