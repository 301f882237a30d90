"""Whether a version fits: every kind of evidence and of GPU, from readings that are handed in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from harness.errors import UnsafeChange
from harness.run.costs import COST, _cost, costs
from harness.run.journal import Journal
from harness.run.machine import HOST, Machine
from harness.run.models.fit import Fit, fit, refuse, remember
from harness.run.models.proposals import equal_share
from harness.run.state import state_folder
from harness.triton import Control, Index

GIB = 2.0**30
URL = "grpc://127.0.0.1:8001"
ONNX = {"backend": "onnxruntime", "instance_group": [{"kind": "KIND_GPU", "count": 1, "gpus": [0]}]}
PYTHON = {"backend": "python", "instance_group": [{"kind": "KIND_CPU", "count": 2}]}
VLLM = {"backend": "vllm", "instance_group": [{"kind": "KIND_MODEL", "count": 1}]}
TRTLLM = {
    "backend": "tensorrtllm", "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    "parameters": {"gpt_model_path": {"string_value": ""}, "gpu_device_ids": {"string_value": "0"}},
}  # fmt: skip


class Server:
    """Answers as Control does, from what it is told to serve: versions and configuration by model."""

    url = URL

    def __init__(self, serves: Mapping[str, tuple[Sequence[int], Mapping[str, Any]]]) -> None:
        self._serves = serves

    def loaded(self, model: str) -> tuple[int, ...]:
        return tuple(self._serves.get(model, ((), {}))[0])

    def config(self, model: str, _: int | None = None) -> Mapping[str, Any]:
        return self._serves[model][1]

    def index(self) -> Index:
        return Index.of(
            [
                {"name": model, "version": str(version), "state": "READY"}
                for model, (versions, _) in self._serves.items()
                for version in versions
            ]
        )


class Place:
    """A journal, a repository, and a machine with one GPU of 80 GiB, 20 of them free, and 10 of 16 GiB of the host."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "state")
        self.journal.folder.mkdir()
        self.repository = folder / "models"
        self.machine = Machine(
            free={"gpu0": 20 * GIB, HOST: 10 * GIB}, total={"gpu0": 80 * GIB, HOST: 16 * GIB}, gpus=("gpu0",)
        )

    def version(self, model: str, version: int, size: int = 0, arguments: Mapping[str, Any] | None = None) -> None:
        folder = self.repository / model / str(version)
        folder.mkdir(parents=True)
        if size:
            with (folder / "weights.bin").open("wb") as file:
                file.truncate(size)
        if arguments is not None:
            (folder / "model.json").write_text(json.dumps(arguments))

    def cost(self, version: int, device: str, gib: float, instances: int = 1, model: str = "llm") -> None:
        wanted = {"cost": {device: gib * GIB}, "instances": {device: instances}}
        with self.journal.action(COST, f"{URL}/{model}/{version}", wanted=wanted):
            pass

    def fit(self, config: Mapping[str, Any], *, serves: Sequence[int] = (1,), stated: float | None = None) -> Fit:
        return self.of({"llm": (serves, config)}, stated=stated)

    def of(self, serves: Mapping[str, Any], model: str = "llm", stated: float | None = None) -> Fit:
        return fit(
            cast(Control, Server(serves)), model, [2], journal=self.journal, repository=self.repository,
            look=lambda _: self.machine, stated=stated,
        )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    return Place(tmp_path)


def test_what_it_cost_before_is_the_best_evidence(place: Place) -> None:
    for gib in (18, 18, 21):
        place.cost(2, "gpu0", gib)
    place.cost(1, "gpu0", 1)
    place.machine = replace(place.machine, held={"llm/1": {"gpu0": 1 * GIB}})
    found = place.fit(ONNX)
    assert found.answer == "does not fit", "18 GiB fit, but one load of three took 21"
    assert found.rows[0].needed == 21 * GIB
    assert (
        "needs 21.0 GiB on gpu0 (measured: the median of 3 loads of it on this server, 17 % on top as margin), "
        "20.0 GiB of 80.0 GiB are free"
    ) in found.sentence


def test_a_margin_is_kept_also_where_all_loads_took_the_same(place: Place) -> None:
    place.cost(2, "gpu0", 19)
    assert place.fit(ONNX).answer == "fits"
    place.cost(2, "gpu0", 19.2)
    place.cost(2, "gpu0", 19.2)
    assert place.fit(ONNX).answer == "does not fit"


def test_another_version_is_an_estimate(place: Place) -> None:
    place.cost(1, "gpu0", 10)
    found = place.fit(ONNX)
    assert found.answer == "fits"
    assert "an estimate: what version 1 cost when it was loaded here" in found.rows[0].evidence


def test_what_serves_holds_now_is_the_next_best_and_is_scaled_by_the_files(place: Place) -> None:
    place.machine = replace(place.machine, held={"llm/1": {"gpu0": 30 * GIB}})
    assert place.fit(ONNX).answer == "does not fit"
    place.version("llm", 1, size=int(16 * GIB))
    place.version("llm", 2, size=int(8 * GIB))
    found = place.fit(ONNX)
    assert (found.answer, found.rows[0].needed) == ("fits", pytest.approx(15.75 * GIB))
    assert "what version 1 holds now, by the size of their files" in found.rows[0].evidence


def test_files_that_say_nothing_do_not_scale(place: Place) -> None:
    place.machine = replace(place.machine, held={"llm/1": {"gpu0": 30 * GIB}})
    place.version("llm", 1, size=1000)
    place.version("llm", 2, size=10)
    assert place.fit(ONNX).rows[0].needed == pytest.approx(31.5 * GIB)


def test_files_refuse_only_what_cannot_fit(place: Place) -> None:
    place.version("llm", 2, size=int(15 * GIB))
    found = place.fit(ONNX)
    assert found.answer == "unknown"
    assert "the size of its files, at least" in found.sentence
    place.machine = replace(place.machine, free={"gpu0": 14 * GIB})
    assert place.fit(ONNX).answer == "does not fit"


def test_no_evidence_never_blocks(place: Place) -> None:
    found = place.fit(ONNX)
    assert found.answer == "unknown"
    assert "whether it fits on grpc://127.0.0.1:8001 is not known" in found.sentence
    refuse(found, allow="", allowed=False)


def test_a_server_elsewhere_is_not_known(place: Place) -> None:
    place.machine = Machine(unknown=f"{URL} is not this machine: its memory is not known from here")
    found = place.fit(ONNX)
    assert (found.answer, found.rows) == ("unknown", ())
    assert found.sentence.endswith("is not known from here")


def test_a_gpu_that_cannot_be_read_is_not_known(place: Place) -> None:
    place.cost(2, "gpu0", 1)
    place.machine = Machine(free={HOST: GIB}, total={HOST: GIB}, missing="NVML: Driver Not Loaded")
    found = place.fit(ONNX)
    assert found.answer == "unknown"
    assert "NVML: Driver Not Loaded" in found.sentence


def test_on_a_cpu_it_is_the_hosts_memory_and_instances_multiply(place: Place) -> None:
    place.cost(2, HOST, 4, instances=1)
    place.machine = replace(place.machine, gpus=(), free={HOST: 10 * GIB})
    assert place.fit(PYTHON).rows[0].needed == pytest.approx(8.4 * GIB), "two instances now, and 5 %"
    four = {**PYTHON, "instance_group": [{"kind": "KIND_CPU", "count": 4}]}
    found = place.fit(four)
    assert found.answer == "does not fit"
    assert "of host memory" in found.sentence
    (proposal,) = found.proposals
    assert "target: {swap: true}" in proposal


def test_a_python_model_of_the_host_that_moves_itself_to_a_gpu_is_held_against_it(place: Place) -> None:
    place.cost(1, HOST, 1)
    assert place.fit(PYTHON).answer == "fits"
    place.machine = replace(place.machine, held={"llm/1": {"gpu0": 24 * GIB, HOST: 1 * GIB}})
    found = place.fit(PYTHON)
    assert found.answer == "does not fit"
    assert [row.device for row in found.rows if row.answer == "does not fit"] == ["gpu0"]


def test_what_it_took_of_a_gpu_that_nobody_named_is_its_cost() -> None:
    before = Machine(used={"gpu0": 0.0, HOST: 0.0})
    after = Machine(used={"gpu0": 30 * GIB, HOST: 3 * GIB}, held={"llm/2": {"gpu0": 24 * GIB, HOST: 2 * GIB}})
    assert _cost("llm/2", {HOST: 2}, before, after, alone=True) == {HOST: 2 * GIB, "gpu0": 24 * GIB}


def test_each_gpu_is_held_against_its_own(place: Place) -> None:
    """20 and 40 GiB are free: enough for 25 on average, and not on each."""
    both = {**ONNX, "instance_group": [{"kind": "KIND_GPU", "count": 1, "gpus": [0, 1]}]}
    place.machine = replace(
        place.machine, free={"gpu0": 20 * GIB, "gpu1": 40 * GIB}, total={"gpu0": 80 * GIB, "gpu1": 80 * GIB},
        gpus=("gpu0", "gpu1"),
    )  # fmt: skip
    place.cost(2, "gpu0", 22)
    found = place.fit(both)
    assert [(row.device, row.answer) for row in found.rows] == [("gpu0", "does not fit"), ("gpu1", "fits")]
    assert found.answer == "does not fit"
    assert "gpu1" not in found.sentence, "it has room, but the version needs both"


def test_a_second_gpu_is_proposed(place: Place) -> None:
    place.machine = replace(
        place.machine, free={"gpu0": 5 * GIB, "gpu1": 20 * GIB, "gpu2": 60 * GIB},
        total=dict.fromkeys(("gpu0", "gpu1", "gpu2"), 80 * GIB), gpus=("gpu0", "gpu1", "gpu2"),
    )  # fmt: skip
    place.cost(2, "gpu0", 30)
    found = place.fit(ONNX)
    assert found.proposals[0] == (
        "there is 60.0 GiB free on gpu2: load it there, as a model of another name or on a server of its own "
        "(instance_group gpus: [2])"
    )
    assert "compare them in turns" in found.proposals[1]
    with pytest.raises(UnsafeChange, match="nothing was loaded; to load it all the same: --anyway") as caught:
        refuse(found, allow="--anyway", allowed=False)
    assert "\n" not in str(caught.value)
    refuse(found, allow="--anyway", allowed=True)


def test_the_servers_gpu_0_may_be_another_one_of_the_machine(place: Place) -> None:
    place.machine = replace(
        place.machine, free={"gpu0": 80 * GIB, "gpu1": 1 * GIB}, total={"gpu0": 80 * GIB, "gpu1": 80 * GIB},
        gpus=("gpu1",),
    )  # fmt: skip
    place.cost(2, "gpu1", 2)
    found = place.fit(ONNX)
    assert [(row.device, row.answer) for row in found.rows] == [("gpu1", "does not fit")]
    assert len(found.proposals) == 1, "it does not see the empty one"


def test_two_vllm_engines_collide_and_the_values_that_fit_are_said(place: Place) -> None:
    for version in (1, 2):
        place.version("llm", version, arguments={"model": "m"})
    place.cost(2, "gpu0", 1)  # what it once took says nothing: it takes its share
    place.machine = replace(place.machine, free={"gpu0": 7.4 * GIB})
    found = place.fit(VLLM)
    assert found.answer == "does not fit"
    assert "needs 72.0 GiB on gpu0 (vLLM's gpu_memory_utilization 0.9, its default, of the whole GPU)" in found.sentence
    assert found.proposals[0] == "with gpu_memory_utilization 0.45 each in the model.json of llm/1, llm/2 they fit"


def test_two_vllm_engines_that_share_fit(place: Place) -> None:
    for version in (1, 2):
        place.version("llm", version, arguments={"model": "m", "gpu_memory_utilization": 0.45})
    place.machine = replace(place.machine, free={"gpu0": 43 * GIB})
    assert place.fit(VLLM).answer == "fits"


def test_vllm_engines_of_two_models_collide_as_well(place: Place) -> None:
    """An engine that somebody else keeps there takes its part of what is to be shared."""
    place.version("old", 1, arguments={"model": "m", "gpu_memory_utilization": 0.6})
    place.version("llm", 2, arguments={"model": "m", "gpu_memory_utilization": 0.6})
    place.machine = replace(place.machine, free={"gpu0": 8 * GIB})
    found = place.of({"old": ((1,), VLLM), "llm": ((), {})}, "llm")
    assert found.answer == "unknown", "it has no configuration yet, which says that it is vLLM"
    (place.repository / "llm" / "config.pbtxt").write_text('backend: "vllm" instance_group [ { kind: KIND_MODEL } ]')
    found = place.of({"old": ((1,), VLLM)}, "llm")
    # 48 GiB of old's share and 8 that are free are 0.7 of 80.
    assert found.proposals[0] == "with gpu_memory_utilization 0.35 each in the model.json of old/1, llm/2 they fit"


@pytest.mark.parametrize(
    ("free", "reserved", "engines", "share"),
    [(8, 72, 2, 0.45), (8, 72, 3, 0.3), (8, 48, 2, 0.35), (0, 40, 2, 0.25), (80, 0, 1, 0.9)],
)
def test_equal_shares(free: float, reserved: float, engines: int, share: float) -> None:
    assert equal_share(80, free, reserved, engines) == share


def test_tensor_parallelism_needs_each_of_its_gpus(place: Place) -> None:
    place.version("llm", 2, arguments={"model": "m", "tensor_parallel_size": 2, "gpu_memory_utilization": 0.5})
    place.machine = replace(
        place.machine, free={"gpu0": 50 * GIB, "gpu1": 30 * GIB, "gpu2": 70 * GIB},
        total=dict.fromkeys(("gpu0", "gpu1", "gpu2"), 80 * GIB), gpus=("gpu0", "gpu1", "gpu2"),
    )  # fmt: skip
    found = place.fit(VLLM)
    assert [(row.device, row.needed, row.answer) for row in found.rows] == [
        ("gpu0", 40 * GIB, "fits"), ("gpu1", 40 * GIB, "does not fit"),
    ]  # fmt: skip
    assert len(found.proposals) == 1, "one other GPU is not two"


def test_tensorrt_llm_takes_what_is_left_so_only_its_weights_can_be_held_against_it(place: Place) -> None:
    place.version("llm", 2, size=int(30 * GIB))
    place.cost(2, "gpu0", 70)  # when it had the GPU for itself
    found = place.fit(TRTLLM)
    assert found.answer == "does not fit"
    assert found.rows[0].needed == 30 * GIB
    assert "lower kv_cache_free_gpu_mem_fraction of llm/1" in found.proposals[0]
    assert "max_tokens_in_paged_kv_cache" in found.proposals[0]
    place.machine = replace(place.machine, free={"gpu0": 31 * GIB})
    assert place.fit(TRTLLM).answer == "unknown", "its weights fit; how much of a cache it gets is another question"


def test_a_stated_figure_comes_first(place: Place) -> None:
    place.cost(2, "gpu0", 70)
    found = place.fit(ONNX, stated=5 * GIB)
    assert (found.answer, found.rows[0].evidence) == ("fits", "as stated")


def test_what_serves_already_and_ensembles(place: Place) -> None:
    assert place.fit(ONNX, serves=(1, 2)).answer == "fits"
    assert "its steps" in place.fit({"platform": "ensemble"}).sentence


def test_costs_in_a_journal_that_is_no_journal_of_ours(place: Place) -> None:
    place.cost(2, "gpu0", 3, instances=2)
    for wanted in (None, {"cost": {}}, {"cost": {"gpu0": "much"}, "instances": {}}, {"cost": 1, "instances": 1}):
        with place.journal.action(COST, f"{URL}/llm/3", wanted=wanted):
            pass
    with place.journal.action(COST, f"{URL}/llm/x", wanted={"cost": {"gpu0": 1}, "instances": {"gpu0": 1}}):
        pass
    (only,) = costs(place.journal.entries(), URL, "llm")
    assert (only.version, only.amounts, only.instances) == (2, {"gpu0": 3 * GIB}, {"gpu0": 2})
    assert costs(place.journal.entries(), "grpc://127.0.0.1:9", "llm") == ()


def test_a_runs_cost_is_kept_for_the_next_run(place: Place, tmp_path: Path) -> None:
    place.cost(2, "gpu0", 25)
    remember(place.journal, URL, "llm")
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    assert other.fit(ONNX).answer == "does not fit"
    assert "measured: the last load" in other.fit(ONNX).sentence
    remember(other.journal, URL, "llm")  # nothing was loaded by it
    assert len(costs(Journal(state_folder([URL])).entries(), URL, "llm")) == 1
