"""Requests to a version, what is counted of them, and which ensembles stand on a model."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import LoadMismatch
from harness.tensors import Tensor, decode, encode
from harness.triton import Answer, Control, Counts, Refused
from harness.triton.answer import joined
from harness.triton.dependents import dependents
from harness.triton.probe import fault
from harness.types import ModelInfo, TensorSpec
from tests.triton.conftest import GOOD, MODEL
from tests.triton.models import constant, ensemble, streaming

pytestmark = pytest.mark.triton

Wires = tuple[Control, Control]

ERRING, MADE_OF = 3, {"ens": MODEL, "outer": "ens", "pinned": MODEL}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Serves tiny 1 and 2, the ensembles `ens` (on tiny), `outer` (on ens) and `pinned` (on tiny 1), and three more."""
    folder = tmp_path_factory.mktemp("busy")
    repository = folder / "models"
    build_repository(repository, {MODEL: {1: {}, GOOD: {}, ERRING: {"fail": 1.0}}})
    config = repository / MODEL / "config.pbtxt"
    config.write_text(re.sub(r"count: \d+", "count: 1", config.read_text()))
    for name, step in MADE_OF.items():
        ensemble(repository, name, step, 1 if name == "pinned" else -1)
    streaming(repository)
    constant(repository, "constant", {1: "[1, 2]", 2: "[np.nan, np.inf]"})
    with EmbeddedServer(repository, folder / "log") as server:
        yield server.start(
            {MODEL: [1, GOOD], **{name: [1] for name in MADE_OF}, "many": [1], "parrot": [1], "constant": [1, 2]}
        )


@pytest.fixture(params=["grpc", "http"])
def asking(busy: EmbeddedServer, request: pytest.FixtureRequest) -> Iterator[Control]:
    with Control(busy.grpc_url if request.param == "grpc" else busy.http_url) as control:
        control.set_versions(MODEL, [1, GOOD])
        yield control


@pytest.fixture
def wires(busy: EmbeddedServer) -> Iterator[Wires]:
    with Control(busy.grpc_url) as over_grpc, Control(busy.http_url) as over_http:
        yield over_grpc, over_http


def test_a_request_is_answered_by_the_version_that_it_names(asking: Control) -> None:
    values = Tensor("INPUT", "FP32", (16,), encode("FP32", range(16)))
    for version, by in ((1, 1), (GOOD, GOOD), (None, GOOD)):
        answer = asking.infer(MODEL, version, [values])
        assert answer == Answer(by, (values._replace(name="OUTPUT"),))
    with pytest.raises(Refused, match=r"unexpected shape for input 'INPUT'"):
        asking.infer(MODEL, 1, [values._replace(shape=(3,), raw=values.raw[:12])])
    with pytest.raises(Refused, match="version 9 is not found"):
        asking.infer(MODEL, 9, [values])


def test_a_stream_is_collected_and_leaves_no_thread(asking: Control) -> None:
    threads = threading.active_count()
    answer = asking.infer("many", 1, [number(3)])
    pair, text = answer.output("PAIR"), answer.output("TEXT")
    assert pair is not None
    assert text is not None
    assert decode("INT32", pair.raw) == [0, 1, 1, 2, 2, 3]
    assert decode("BYTES", text.raw) == [b"w0 w1 w2 "]
    with pytest.raises(Refused, match="many was told to fail"):
        asking.infer("many", 1, [number(7)])
    deadline = time.monotonic() + 30
    while threading.active_count() > threads:
        assert time.monotonic() < deadline


def test_a_decoupled_model_without_an_answer(asking: Control) -> None:
    with pytest.raises(Refused, match="many ended its stream without an answer"):
        asking.infer("many", 1, [number(0)])


def test_probes(asking: Control) -> None:
    first = asking.probe(MODEL, 1, seed=7)
    assert (first.version, first) == (1, asking.probe(MODEL, 1, seed=7))
    assert first != asking.probe(MODEL, 1, seed=8)
    assert asking.probe("outer", 1).version == 1
    with pytest.raises(LoadMismatch, match=r"tiny: version 3 does not answer a probe: .*unknown model"):
        asking.probe(MODEL, ERRING)
    assert asking.probe("constant", 1).version == 1
    with pytest.raises(LoadMismatch, match="constant: version 2 does not answer a probe properly: OUTPUT holds no fin"):
        asking.probe("constant", 2)


def test_the_steps_of_an_ensemble_and_where_an_open_one_goes(asking: Control) -> None:
    assert asking.steps("pinned") == ((MODEL, 1),)
    assert asking.steps("ens") == ((MODEL, GOOD),), "which names no version: the highest that serves"
    assert asking.steps("outer") == (("ens", 1),)
    assert asking.steps(MODEL) == ()


def test_counts_are_of_what_serves_since_it_was_loaded(wires: Wires) -> None:
    control, _ = wires
    control.unload(MODEL)
    control.set_versions(MODEL, [GOOD])
    assert control.dependents(MODEL) == ("ens", "outer")  # Triton took `pinned` out with version 1
    control.set_versions(MODEL, [1, GOOD])
    for wire in wires:
        assert wire.counts("nosuch") == {}
        assert wire.dependents(MODEL) == ("ens", "outer", "pinned")
        assert wire.dependents("ens") == ("outer",)
        assert wire.dependents("outer") == ()
    control.probe(MODEL, 1)
    control.probe(MODEL, None)
    control.probe(MODEL, GOOD)
    assert counted(wires, MODEL, 3) == {1: Counts(1, 0), GOOD: Counts(2, 0)}
    control.set_versions(MODEL, [GOOD])
    assert counted(wires, MODEL, 2) == {GOOD: Counts(2, 0)}
    control.set_versions(MODEL, [1, GOOD])
    assert counted(wires, MODEL, 2) == {1: Counts(0, 0), GOOD: Counts(2, 0)}


def test_what_counts_as_a_failure(wires: Wires) -> None:
    """An error that a Python model answers is a success to Triton; to the ensemble around it, a failure, twice."""
    control, _ = wires
    control.set_versions(MODEL, [1, ERRING])
    with pytest.raises(LoadMismatch, match="tiny: version 3 does not answer a probe: tiny was told to fail"):
        control.probe(MODEL, ERRING)
    assert counted(wires, MODEL, 1)[ERRING] == Counts(1, 0)
    with pytest.raises(LoadMismatch, match="in ensemble 'ens', tiny was told to fail"):
        control.probe("ens", 1)
    assert counted(wires, "ens", 2) == {1: Counts(0, 2)}
    before = control.counts("many")[1].total
    control.infer("many", 1, [number(3)])
    assert counted(wires, "many", before + 1)[1].total == before + 1
    control.unload("many")
    assert [wire.counts("many") for wire in wires] == [{}, {}]


def test_a_circle_of_ensembles_ends() -> None:
    configs = {name: {"ensemble_scheduling": {"step": [{"model_name": step}]}} for name, step in ("ab", "bc", "ca")}
    assert dependents("a", configs) == ("b", "c")


INFO = ModelInfo("m", "", (1,), (), (TensorSpec("O", "FP32", (2,)),), 0, False)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(2, ()), "version 2 answered"),
        (Answer(1, ()), "no output"),
        (Answer(1, (Tensor("O", "INT32", (2,), bytes(8)),)), "O is INT32, not FP32"),
        (Answer(1, (Tensor("O", "FP32", (3,), bytes(8)),)), "O has 8 bytes, which are no FP32 of [3]"),
        (Answer(1, (Tensor("O", "FP32", (2,), bytes(7)),)), "O has 7 bytes, which are no FP32 of [2]"),
        (Answer(1, (Tensor("O", "FP32", (2,), encode("FP32", [float("nan")] * 2)),)), "O holds no finite number"),
        (Answer(1, (Tensor("O", "FP32", (2,), encode("FP32", [float("nan"), 1])),)), ""),
    ],
)
def test_what_is_no_proper_answer(answer: Answer, words: str) -> None:
    assert fault(answer, INFO, 1) == words


def test_pieces_of_other_shapes_become_flat() -> None:
    pieces = [Answer(1, (Tensor("O", "INT8", shape, bytes(shape[0] * shape[1])),)) for shape in ((1, 2), (1, 3))]
    assert joined(pieces) == Answer(1, (Tensor("O", "INT8", (5,), bytes(5)),))


def test_a_short_text_is_asked_of_a_token_model(asking: Control) -> None:
    text = asking.probe("parrot", 1).output("text_output")
    assert text is not None
    assert decode("BYTES", text.raw) == [b"ThecapitalofFranceis"]


@pytest.mark.slow
@pytest.mark.weights
def test_a_language_model_answers_a_probe(tmp_path: Path) -> None:
    build_repository(tmp_path / "models", {"smollm2": {1: "fp16"}})
    with EmbeddedServer(tmp_path / "models", tmp_path / "log") as server:
        server.start({"smollm2": [1]})
        for url in (server.grpc_url, server.http_url):
            with Control(url) as control:
                text = control.probe("smollm2", 1).output("text_output")
                assert text is not None
                assert len(decode("BYTES", text.raw)[0]) > 10


def number(n: int) -> Tensor:
    return Tensor("N", "INT32", (1,), encode("INT32", [n]))


def counted(wires: Wires, model: str, requests: int) -> dict[int, Counts]:
    """The counters, once they have seen so many: they lag a little behind the answers. Both wires say the same."""
    deadline = time.monotonic() + 30
    while True:
        grpc, http = (wire.counts(model) for wire in wires)
        if sum(counts.total for counts in grpc.values()) >= requests and grpc == http:
            return grpc
        assert time.monotonic() < deadline, (grpc, http)
