"""Somebody moves the traffic by hand in mid-run: the run does not overrule it, and ends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.run.conftest import CANARY, canary, journal, only_folder
from tests.run.front import Kind, one_triton
from tests.run.test_canary_ingress import ON_ONE
from tests.run.test_crash import wait_for_samples

pytestmark = pytest.mark.triton


@pytest.mark.parametrize("kind", ["haproxy", "envoy"])
def test_a_rollback_by_hand_stays(kind: Kind, tmp_path: Path) -> None:
    with one_triton(tmp_path, kind) as place:
        file = tmp_path / "through.yaml"
        file.write_text(
            ON_ONE.format(
                triton=place.blue.grpc_url, repository=place.blue.repository, entry=place.router.http_url,
                control=place.router.control,
            )
        )  # fmt: skip
        run = subprocess.Popen(
            [CANARY, "run", file, "--out", tmp_path / "out", "--json", "--set", "stages.1.for=600s"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for_samples(tmp_path / "out", 1)
        assert canary("route", "rollback", place.router.control).code == 0
        stdout, stderr = run.communicate(timeout=300)
        assert run.returncode == 4, stderr
        assert "somebody changed the split since the run had set it to 0.1" in stderr
        assert json.loads(stdout)["verdict"] == "inconclusive"
        assert place.split().candidate_share == 0.0
        assert place.ready() == [1]
    moves = [line["wanted"] for line in journal(only_folder(tmp_path / "out")) if line["action"] == "route.set"]
    assert 0.5 not in moves
