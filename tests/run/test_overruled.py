"""Somebody moves the traffic by hand in mid-run: the run does not overrule it, and ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.run.conftest import Background, canary, journal
from tests.run.front import Kind, one_triton
from tests.run.test_canary_ingress import ON_ONE
from tests.run.test_crash import in_stage

pytestmark = pytest.mark.triton


@pytest.mark.parametrize("kind", ["haproxy", "envoy"])
def test_a_rollback_by_hand_stays(kind: Kind, tmp_path: Path, background: Background) -> None:
    with one_triton(tmp_path, kind) as place:
        file = tmp_path / "through.yaml"
        file.write_text(
            ON_ONE.format(
                triton=place.blue.grpc_url, repository=place.blue.repository, entry=place.router.http_url,
                control=place.router.control,
            )
        )  # fmt: skip
        words = ("run", file, "--json", "--set", "stages.1.for=600s")
        run, folder = in_stage(1, lambda out: background(*words, "--out", out), tmp_path / "out")
        assert canary("route", "rollback", place.router.control).code == 0
        stdout, stderr = run.communicate(timeout=300)
        assert run.returncode == 4, stderr
        assert "somebody changed the split since the run had set it to 0.1" in stderr
        assert json.loads(stdout)["verdict"] == "inconclusive"
        assert place.split().candidate_share == 0.0
        assert place.ready() == [1]
    moves = [line["wanted"] for line in journal(folder) if line["action"] == "route.set"]
    assert 0.5 not in moves
