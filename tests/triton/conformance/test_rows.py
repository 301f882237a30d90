"""The rows, their document, and what a run of them makes of an answer. Needs no server."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import Unreachable, UsageError
from harness.triton.conformance import GROUPS, Api, Result, Rules, Site, markdown, measure
from harness.triton.conformance.row import Facts, Group, NotRun

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "triton.md"


def test_the_document_has_the_rows_of_the_code() -> None:
    _before, _mark, rest = DOCUMENT.read_text().partition("<!-- rows: triton-canary conformance --list -->\n")
    tables, _mark, _after = rest.partition("<!-- end of rows -->")
    assert tables.strip() == markdown(GROUPS).strip()


def test_every_row_says_what_it_claims_and_what_rests_on_it() -> None:
    rows = [row for group in GROUPS for row in group.rows]
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.expected, row.name
        for text in (row.claim, row.safeguard):
            assert text.endswith("."), row.name
            assert not set("|\n") & set(text), f"{row.name}: would break its table"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Nobody answers there; `model(load=False)` writes files."""
    return Site(Api("http://127.0.0.1:9"), tmp_path)


def run(site: Site, group: Group, **rules: object) -> list[Result]:
    return list(measure([group], site, Rules(**{"in_use": False, "rest_s": 0.0, **rules})))


def only(site: Site, answer: Facts | Exception) -> Result:
    group = Group("one")

    @group.row(claim="It is so.", expected={"so": True}, safeguard="Nothing.")
    def a_row(site: Site) -> Facts:
        site.model(1, load=False)
        if isinstance(answer, Exception):
            raise answer
        return answer

    (result,) = run(site, group)
    return result


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({"so": True}, "same"),
        ({"so": True, "and": 5}, "same"),
        ({"so": False}, "different"),
        ({}, "different"),
        (NotRun("no GPU"), "not run"),
        (KeyError("inputs"), "different"),
    ],
)
def test_outcomes(site: Site, answer: Facts | Exception, outcome: str) -> None:
    result = only(site, answer)
    assert (result.row.name, result.outcome) == ("a-row", outcome)
    assert bool(result.reason) is isinstance(answer, Exception)
    assert list(site.repository.iterdir()) == []


def test_files_go_even_if_the_server_has(site: Site) -> None:
    with pytest.raises(Unreachable):
        only(site, Unreachable("gone"))
    assert list(site.repository.iterdir()) == []


def rows_of_every_kind() -> Group:
    group = Group("kinds")
    for name, kind in {
        "plain": {},
        "hard": {"disturbs": "it hurts"},
        "own": {"own": True},
        "page": {"metrics": True},
    }.items():

        def measured(_site: Site) -> Facts:
            return {"so": True}

        measured.__name__ = name
        group.row(claim="So.", expected={"so": True}, safeguard="None.", **kind)(measured)  # type: ignore[arg-type]
    return group


def test_a_server_that_nobody_uses_gets_all_but_what_it_cannot(site: Site) -> None:
    results = {result.row.name: result for result in run(site, rows_of_every_kind())}
    assert {name: result.outcome for name, result in results.items()} == {
        "plain": "same", "hard": "same", "own": "not run", "page": "not run",
    }  # fmt: skip
    assert "without --url" in results["own"].reason
    assert "--metrics-url" in results["page"].reason


def test_a_server_in_use_is_not_disturbed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.api, "server_ready", lambda: 200)
    results = {result.row.name: result for result in run(site, rows_of_every_kind(), in_use=True)}
    assert results["plain"].outcome == "same"
    assert results["hard"].outcome == "not run"
    assert "it hurts: --mine" in results["hard"].reason


def test_rows_that_load_for_seconds_or_fail_disturb() -> None:
    """A new row of that kind must say so: on a server in use nothing else keeps it from being run."""
    source = Path(__file__).resolve().parents[3] / "harness" / "triton" / "conformance"
    for group in GROUPS:
        for row in group.rows:
            file = source / f"{row.measure.__module__.rpartition('.')[2]}.py"
            body = file.read_text().split(f"def {row.measure.__name__}(")[1].split("\n@row(")[0]
            if "held=True" in body or "fails=True" in body:
                assert row.disturbs or row.own, row.name
            if ".metrics()" in body or ".counter(" in body or ".at_metrics_port(" in body:
                assert row.metrics or row.own, row.name


def test_a_name_that_no_row_has(site: Site) -> None:
    with pytest.raises(UsageError, match=r"no row nonsense: known are plain, hard"):
        run(site, rows_of_every_kind(), only=["nonsense"])


def test_a_count_is_waited_for_and_one_that_does_not_come_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton counts a request just after it has answered it."""
    looks = iter(range(10))
    monkeypatch.setattr(site.api, "statistics", lambda _: {"1": {"success": next(looks), "fail": 1}})
    model = site.model(1, load=False)
    assert model.counted(4) == {"1": {"success": 3, "fail": 1}}
    monkeypatch.setattr("harness.triton.conformance.site.COUNTED_S", 0.0)
    assert model.counted(99)["1"]["success"] < 9
