"""docs/kubernetes: what Kubernetes takes, what our own command line takes, and what keeps a repository whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from harness.cli import parser

FOLDER = Path(__file__).parent.parent / "docs" / "kubernetes"
EXAMPLES = {
    f"{file.name}:{document['metadata']['name']}": document
    for file in sorted(FOLDER.glob("*.yaml"))
    for document in YAML(typ="safe").load_all(file)
}
SYNC = "repo-sync-cronjob.yaml:repo-sync"
DUSK, DAWN = (f"night-batch.yaml:batch-{moment}" for moment in ("dusk", "dawn"))


def job_of(document: Any) -> Any:
    return document["spec"]["jobTemplate"]["spec"] if document["kind"] == "CronJob" else document["spec"]


@pytest.fixture(params=EXAMPLES, ids=str)
def document(request: pytest.FixtureRequest) -> Any:
    return EXAMPLES[request.param]


def test_they_are_there() -> None:
    files = {name.partition(":")[0] for name in EXAMPLES}
    assert files == {"repo-sync-cronjob.yaml", "publish-job.yaml", "retire-job.yaml", "night-batch.yaml"}
    assert {SYNC, DUSK, DAWN} <= EXAMPLES.keys()


@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
def test_kubernetes_takes_them(document: Any, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_validation_is_strict(document: Any) -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**document, "concurencyPolicy": "Forbid"}, "1.29", strict=True)


def test_every_command_line_is_ours(document: Any) -> None:
    for container in job_of(document)["template"]["spec"]["containers"]:
        program, *argv = container["command"]
        assert program == "triton-canary"
        args = parser().parse_args(argv)
        mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
        repository = getattr(args, "repository", None)
        if repository is not None:
            assert repository.parent in mounts, "mounted one level above, so that there is an outside"
            assert repository not in mounts
            for beside in (args.state, getattr(args, "staging", None)):
                assert beside is None or beside.parent == repository.parent
        else:
            assert any(args.folder.is_relative_to(mount) for mount in mounts)


def test_pods_may_little_and_hold_no_secret(document: Any) -> None:
    pod = job_of(document)["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["restartPolicy"] == "Never"
    for container in pod["containers"]:
        may = container["securityContext"]
        assert may["readOnlyRootFilesystem"]
        assert not may["allowPrivilegeEscalation"]
        assert may["capabilities"] == {"drop": ["ALL"]}
        assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]
        for variable in container["env"]:
            assert variable["name"] == "HOME" or "secretKeyRef" in variable["valueFrom"]


def test_wrong_usage_is_not_tried_again(document: Any) -> None:
    rule = job_of(document)["podFailurePolicy"]["rules"][0]
    assert (rule["action"], rule["onExitCodes"]) == ("FailJob", {"operator": "In", "values": [2]})


def test_two_syncs_never_overlap() -> None:
    assert EXAMPLES[SYNC]["spec"]["concurrencyPolicy"] == "Forbid"


def test_dusk_and_dawn_differ_in_their_hour_and_in_the_delay_alone() -> None:
    dusk, dawn = (
        parser().parse_args(job_of(EXAMPLES[name])["template"]["spec"]["containers"][0]["command"][1:])
        for name in (DUSK, DAWN)
    )
    assert (dusk.max_queue_delay, dawn.max_queue_delay) == (0.02, 0.0)
    assert {**vars(dusk), "max_queue_delay": 0} == {**vars(dawn), "max_queue_delay": 0}
    specs = [EXAMPLES[name]["spec"] for name in (DUSK, DAWN)]
    assert [spec["schedule"] for spec in specs] == ["0 22 * * *", "0 6 * * *"]
    assert len({spec["timeZone"] for spec in specs}) == 1
