"""The verdict on an operation follows from its facts alone, and a fact that is missing never passes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import jsonschema
import numpy as np
import pytest

from harness.errors import RecordingError
from harness.judge import judge_operation, schema, verdict_json
from harness.judge.operations.regions import region_of
from harness.types import Verdict
from tests.judge.operations import (
    FILES,
    GOOD,
    Facts,
    exact,
    floats,
    multi_region,
    region,
    repo_sync,
    retire_model,
    seen,
    serving,
    sync_round,
    text,
)


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {finding.metric: finding.outcome for finding in verdict.findings}


def reason(verdict: Verdict, metric: str) -> str:
    (found,) = [finding.reason for finding in verdict.findings if finding.metric == metric]
    return found


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_operation_is_done_and_its_verdict_fits_the_schema(kind: str) -> None:
    verdict = judge_operation(GOOD[kind]())
    assert verdict.verdict == "promote", verdict
    assert set(outcomes(verdict).values()) == {"pass"}
    meta = {"scenario": {"name": kind}, "finished": True}
    document = verdict_json(verdict, meta)
    jsonschema.validate(json.loads(document), schema())
    again = json.loads(json.dumps(GOOD[kind]()))
    assert verdict_json(judge_operation(again), meta) == document


@pytest.mark.parametrize("kind", GOOD)
def test_no_fact_that_is_taken_away_makes_it_fail_or_crash(kind: str) -> None:
    """A top-level fact that is missing: inconclusive, or a damaged file; never another kind of error."""
    good = GOOD[kind]()
    for key in good:
        if key in ("format", "kind", "demonstration", "counters", "done", "refused", "staying"):
            continue
        facts = copy.deepcopy(good)
        del facts[key]
        try:
            verdict = judge_operation(facts)
        except RecordingError:
            continue
        assert verdict.verdict == "inconclusive", key
        assert verdict.needs


@pytest.mark.parametrize("kind", GOOD)
def test_facts_cut_short_anywhere_never_promote(kind: str) -> None:
    facts = {**GOOD[kind](), "finished": False, "error": "interrupted by SIGTERM"}
    verdict = judge_operation(facts)
    assert verdict.verdict == "inconclusive"
    assert "interrupted by SIGTERM" in verdict.reason
    assert (
        judge_operation(
            {"kind": kind, "finished": True, "model": "m", "version": 1, "then": "remove", "probes": 8}
        ).verdict
        == "inconclusive"
    )


def test_an_unknown_kind_and_damage_are_recording_errors() -> None:
    with pytest.raises(RecordingError, match="expected a kind of repo-sync"):
        judge_operation({"kind": "repo-snyc"})
    with pytest.raises(RecordingError, match="damaged"):
        judge_operation({**repo_sync(), "rounds": [{"broken": False}]})


# ---------------------------------------------------------------- repo-sync


def spoil(change: Callable[[Facts], None]) -> Facts:
    facts = repo_sync()
    change(facts)
    return facts


def _other_bytes(facts: Facts) -> None:
    facts["rounds"][1]["differences"]["b/2"] = ["model.py has 3 bytes, not 4"]


def _not_served(facts: Facts) -> None:
    del facts["rounds"][1]["after"]["serving"]["b/2"]


def _no_answer(facts: Facts) -> None:
    facts["rounds"][1]["probes"]["b/2"] = "b: version 2 does not answer"


def _never_came(facts: Facts) -> None:
    facts["rounds"][1]["expected"] = ["b/2", "b/7"]


def _rewritten(facts: Facts) -> None:
    facts["rounds"][1]["after"]["versions"]["a/1"]["inode"] = 99


def _gone(facts: Facts) -> None:
    del facts["rounds"][1]["after"]["versions"]["a/1"]


def _other_processes(facts: Facts) -> None:
    facts["rounds"][1]["after"]["serving"]["a/1"] = serving(["2@2.0"])


def _counters_anew(facts: Facts) -> None:
    facts["rounds"][1]["before"]["serving"]["a/1"] = serving(None, 900)
    facts["rounds"][1]["after"]["serving"]["a/1"] = serving(None, 2)


def _rubbish(facts: Facts) -> None:
    facts["rounds"][2]["after"]["entries"].append("b/3")


def _taken(facts: Facts) -> None:
    facts["rounds"][2]["refused"] = ""


@pytest.mark.parametrize(
    ("change", "metric", "words"),
    [
        (_other_bytes, "sync.changed", "b/2: model.py has 3 bytes"),
        (_not_served, "sync.changed", "b/2 does not serve"),
        (_no_answer, "sync.changed", "answers no probe"),
        (_never_came, "sync.changed", "b/7 did not arrive"),
        (_rewritten, "sync.untouched", "files of a/1"),
        (_gone, "sync.untouched", "directory of a/1 is gone"),
        (_other_processes, "sync.untouched", "a/1 was initialised anew: other processes"),
        (_counters_anew, "sync.untouched", "a/1 was initialised anew: its request counters"),
        (_rubbish, "sync.broken", "changed the repository: b/3"),
        (_taken, "sync.broken", "was taken"),
    ],
)
def test_each_wrong_fact_of_a_sync_is_named(change: Callable[[Facts], None], metric: str, words: str) -> None:
    verdict = judge_operation(spoil(change))
    assert verdict.verdict == "rollback"
    assert outcomes(verdict)[metric] == "fail"
    assert words in reason(verdict, metric)
    assert [name for name, outcome in outcomes(verdict).items() if outcome == "fail"] == [metric]


def test_an_unchanged_version_of_a_changed_model_may_be_initialised_anew() -> None:
    """Triton does that where something wrote into its directory; its files are watched all the same."""
    facts = repo_sync()
    facts["rounds"][1]["after"]["serving"]["b/1"] = serving(["7@7.0"])
    assert judge_operation(facts).verdict == "promote"


def test_processes_of_an_earlier_load_may_be_about_to_end() -> None:
    facts = repo_sync()
    facts["rounds"][1]["before"]["serving"]["a/1"] = serving(["1@1.0", "0@0.5"])
    verdict = judge_operation(facts)
    assert verdict.verdict == "promote"
    assert "was served on by the same 3 processes" in reason(verdict, "sync.untouched")
    facts["rounds"][1]["after"]["serving"]["a/1"] = serving([])
    assert "a/1 was initialised anew" in reason(judge_operation(facts), "sync.untouched")


def test_a_users_store_that_refuses_is_no_proof_of_anything_but_that_nothing_changed() -> None:
    two = seen("a/1", "b/1", processes=None)
    one = sync_round("sync", two, two, refused="s3://m: 403", sync=None)
    facts = {**repo_sync(), "demonstration": False, "finished": False, "error": "s3://m: 403", "rounds": [one]}
    verdict = judge_operation(facts)
    assert verdict.verdict == "inconclusive"
    assert outcomes(verdict) == {"sync.changed": "no data", "sync.untouched": "pass", "sync.broken": "pass"}


def test_a_store_without_news_is_done() -> None:
    two = seen("a/1", "b/1", processes=None)
    verdict = judge_operation({**repo_sync(), "demonstration": False, "rounds": [sync_round("sync", two, two)]})
    assert verdict.verdict == "promote"
    assert "nothing had changed" in verdict.reason


# ---------------------------------------------------------------- multi-region


def noisy(seed: int, sigma: float = 1e-3) -> Callable[[int], Facts]:
    rng = np.random.default_rng(seed)
    return lambda number: floats(*(np.arange(1, 5) + number + rng.normal(0, sigma, 4)))


def test_a_region_whose_name_has_dots_is_named_whole() -> None:
    assert region_of("region.eu.west.1.ready") == "eu.west.1"
    verdict = judge_operation(multi_region(region("eu.north"), region("eu.south", ready=[1]), region("us")))
    assert "eu.south failed, eu.north, us did not" in verdict.reason


def test_noise_within_regions_is_no_alarm_between_them() -> None:
    """300 pairs of regions with the same noise: at most 1 % are called different, and a shift of ten times is found."""
    wrong = found = 0
    for number in range(300):
        alike = multi_region(region("north", noisy(2 * number)), region("south", noisy(2 * number + 1)))
        wrong += judge_operation(alike).verdict != "promote"
    for number in range(50):
        rng = np.random.default_rng(number)
        shifted = lambda n, rng=rng: floats(*(np.arange(1, 5) + n + 0.02 + rng.normal(0, 1e-3, 4)))  # noqa: E731
        facts = multi_region(region("north", noisy(1000 + number)), region("south", shifted))
        found += judge_operation(facts).verdict == "rollback"
    assert wrong <= 3
    assert found == 50


def test_noise_of_a_single_number_and_a_single_probe_is_seldom_an_alarm() -> None:
    """The hardest case: nothing to average. Worse than above, and rare all the same."""
    wrong = 0
    for number in range(400):
        rng = np.random.default_rng(number)
        ask = lambda n, rng=rng: floats(1 + rng.normal(0, 1e-3))  # noqa: E731
        regions = [region(name, ask) for name in ("north", "south")]
        for one in regions:
            one["answers"] = one["answers"][:1]
        wrong += judge_operation({**multi_region(*regions), "probes": 1}).verdict != "promote"
    assert wrong <= 0.05 * 400


def test_where_each_region_repeats_itself_nothing_may_differ() -> None:
    other = region("south", lambda number: floats(number, number + 0.5000001))
    verdict = judge_operation(multi_region(region("north"), other))
    assert verdict.verdict == "rollback"
    assert [m for m, o in outcomes(verdict).items() if o == "fail"] == ["region.south.outputs"]
    assert "nobody can say which one" in reason(verdict, "region.south.outputs")


def test_of_three_the_one_that_stands_alone_is_named_wherever_it_stands() -> None:
    shifted = lambda number: floats(number + 1, number + 1.5)  # noqa: E731
    for bad in range(3):
        regions = [region(f"r{number}", shifted if number == bad else exact) for number in range(3)]
        verdict = judge_operation(multi_region(*regions))
        assert [m for m, o in outcomes(verdict).items() if o == "fail"] == [f"region.r{bad}.outputs"]
        assert list(outcomes(verdict).values()).count("pass") == 8


def test_of_two_the_one_with_the_right_bytes_is_the_reference() -> None:
    spoilt = {"model.py": {"size": 3, "sha256": "b" * 64}, "settings.json": {"size": 1, "sha256": "c" * 64}}
    bad = region("north", lambda number: floats(number + 1, 2), files=spoilt)
    verdict = judge_operation(multi_region(bad, region("south")))
    failed = {metric for metric, outcome in outcomes(verdict).items() if outcome == "fail"}
    assert failed == {"region.north.bytes", "region.north.outputs"}
    assert "model.py is another file" in reason(verdict, "region.north.bytes")
    assert "settings.json was not published" in reason(verdict, "region.north.bytes")


def test_a_dead_region_is_named_and_the_others_are_reported() -> None:
    dead = {"name": "south", "error": "grpc://south:8001: nobody answers"}
    verdict = judge_operation(multi_region(region("north"), dead, region("west")))
    found = outcomes(verdict)
    assert verdict.verdict == "rollback"
    assert found["region.south.ready"] == "fail"
    assert found["region.south.outputs"] == found["region.south.bytes"] == "no data"
    assert {outcome for metric, outcome in found.items() if "south" not in metric} == {"pass"}
    assert "nobody answers" in verdict.reason


def test_one_region_alone_proves_nothing() -> None:
    alone = multi_region(region("north"), {"name": "south", "error": ""})
    verdict = judge_operation(alone)
    assert verdict.verdict == "inconclusive"
    assert outcomes(verdict)["region.north.outputs"] == "no data"


def test_text_is_the_same_or_not_unless_a_region_does_not_repeat_it() -> None:
    same = lambda number: text(f"answer {number}")  # noqa: E731
    other = lambda number: text("another" if number == 3 else f"answer {number}")  # noqa: E731
    verdict = judge_operation(multi_region(region("north", same), region("south", other)))
    assert "text_output of probe 3" in reason(verdict, "region.south.outputs")
    count = iter(range(10_000))
    never = lambda _number: text(f"{next(count)}")  # noqa: E731
    verdict = judge_operation(multi_region(region("north", same), region("south", never)))
    assert verdict.verdict == "inconclusive"
    assert outcomes(verdict)["region.south.outputs"] == "no data"
    sampled = lambda number: text(f"{next(count)}") if number == 3 else same(number)  # noqa: E731
    verdict = judge_operation(multi_region(region("north", same), region("south", sampled)))
    assert verdict.verdict == "promote"
    assert "1 answer not repeated" in reason(verdict, "region.south.outputs")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda number: floats(float("nan"), 1), "values that are no numbers"),
        (lambda number: floats(number, number + 0.5, 0.0), "answers otherwise"),
        (lambda number: floats(number, number + 0.5, name="ANOTHER"), "answers otherwise"),
    ],
)
def test_answers_of_another_form_differ(bad: Callable[[int], Facts], words: str) -> None:
    verdict = judge_operation(multi_region(region("north"), region("south", bad)))
    assert verdict.verdict == "rollback"
    assert words in reason(verdict, "region.south.outputs")
    json.loads(verdict_json(verdict, {}))


def test_a_region_that_failed_but_serves_is_no_success() -> None:
    verdict = judge_operation(multi_region(region("north"), region("south", error="south: 403")))
    assert outcomes(verdict)["region.south.ready"] == "fail"
    verdict = judge_operation(multi_region(region("north"), region("south", ready=[1], answers=None)))
    assert "serves version 1, and not 2" in reason(verdict, "region.south.ready")
    assert FILES["model.py"]["size"] == 3


# ---------------------------------------------------------------- retire-model


def test_requests_that_still_arrive_are_a_refusal_that_changed_nothing() -> None:
    facts = retire_model(
        refused="m: version 1 is still asked", arrivals={"requests": 3, "window_s": 1.5}, archived=None, journal=[],
        after={"ready": [1, 2], "directory": True},
    )  # fmt: skip
    verdict = judge_operation(facts)
    assert verdict.verdict == "rollback"
    assert verdict.reason == "Not retired: 3 requests still arrive at m version 1 in 1.5 s"
    assert outcomes(verdict) == {"traffic.v1": "fail", "retire.unchanged": "pass", "traffic.v2": "pass"}
    facts["after"] = {"ready": [2], "directory": True}
    assert outcomes(judge_operation(facts))["retire.unchanged"] == "fail"


def _steps(*steps: tuple[str, str]) -> list[dict[str, str]]:
    return [{"t": "", "action": action, "target": "m/1", "state": state} for action, state in steps]


@pytest.mark.parametrize(
    ("other", "metric", "outcome"),
    [
        ({"after": {"ready": [1, 2], "directory": False}}, "retire.unloaded", "fail"),
        ({"after": {"ready": [2, 3], "directory": False}}, "retire.unloaded", "fail"),
        ({"after": {"ready": [2], "directory": True}}, "retire.directory", "fail"),
        ({"archived": False}, "retire.directory", "fail"),
        ({"journal": []}, "retire.directory", "no data"),
        (
            {"journal": _steps(("version.move", "begun"), ("models.set", "begun"), ("models.set", "done"))},
            "retire.directory",
            "fail",
        ),
        ({"journal": _steps(("models.set", "begun"), ("version.move", "begun"))}, "retire.directory", "no data"),
        ({"arrivals": None}, "traffic.v1", "no data"),
    ],
)
def test_each_wrong_fact_of_a_retirement_is_named(other: Facts, metric: str, outcome: str) -> None:
    verdict = judge_operation(retire_model(**other))
    assert outcomes(verdict)[metric] == outcome
    assert verdict.verdict == {"fail": "rollback", "no data": "inconclusive"}[outcome]


def test_one_failed_request_of_500_fails() -> None:
    steady = {**retire_model()["steady"], "failed": 1, "errors": ["timeout"]}
    verdict = judge_operation(retire_model(steady=steady))
    assert reason(verdict, "traffic.v2") == "1 of 500 requests failed: timeout"
    steady = {**retire_model()["steady"], "covers": False}
    assert outcomes(judge_operation(retire_model(steady=steady)))["traffic.v2"] == "no data"


def test_without_requests_of_our_own_tritons_counters_speak() -> None:
    counters = {"before": {"success": 5, "failure": 1}, "after": {"success": 9, "failure": 1}}
    assert outcomes(judge_operation(retire_model(steady=None, counters=counters)))["traffic.v2"] == "pass"
    counters["after"] = {"success": 9, "failure": 2}
    assert outcomes(judge_operation(retire_model(steady=None, counters=counters)))["traffic.v2"] == "fail"
    counters["after"] = {"success": 1, "failure": 1}
    assert "began again" in reason(judge_operation(retire_model(steady=None, counters=counters)), "traffic.v2")
    assert judge_operation(retire_model(steady=None, counters=None)).verdict == "inconclusive"


def test_what_an_earlier_run_had_begun_is_finished_without_its_facts() -> None:
    before = {"ready": [2], "directory": True}
    verdict = judge_operation(
        retire_model(before=before, arrivals=None, journal=_steps(("version.move", "begun"), ("version.move", "done")))
    )
    assert verdict.verdict == "promote"
    gone = {"ready": [2], "directory": False}
    assert judge_operation(retire_model(before=gone, arrivals=None, journal=[])).verdict == "promote"
