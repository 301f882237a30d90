"""The ensemble on a real Triton: what its steps hand on, what it streams, and what a second one beside it changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.embedded.rag.passages import passages
from harness.triton import Control
from tests.embedded.conftest import Asker
from tests.waiting import until

pytestmark = [pytest.mark.triton, pytest.mark.weights, pytest.mark.embedding]
QUESTION = "What does the with statement do?"
ENSEMBLES = ("rag_v1", "rag_v2")


class Steps:
    """The steps, asked one by one."""

    def __init__(self, grpc_url: str) -> None:
        import tritonclient.grpc as grpc

        self._grpc = grpc
        self.client = grpc.InferenceServerClient(grpc_url.removeprefix("grpc://"))

    def ask(self, model: str, version: int = 1, **inputs: Any) -> dict[str, Any]:
        tensors = []
        for name, value in inputs.items():
            datatype = {"O": "BYTES", "f": "FP32", "i": "INT32"}[value.dtype.kind]
            tensors.append(self._grpc.InferInput(name, list(value.shape), datatype))
            tensors[-1].set_data_from_numpy(value)
        result = self.client.infer(model, tensors, str(version), client_timeout=60)
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}

    def counts(self, model: str) -> dict[str, tuple[int, int]]:
        """Requests answered, and the nanoseconds of all together, by version."""
        rows = self.client.get_inference_statistics(model).model_stats
        return {row.version: (row.inference_stats.success.count, row.inference_stats.success.ns) for row in rows}


@pytest.fixture(scope="module")
def rag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("rag")
    build_repository(folder / "models", {"rag_v1": {1: "full"}, "rag_v2": {1: "slow"}})
    with EmbeddedServer(folder / "models", folder / "triton.log") as server:
        yield server.start({"rag_v1": [1], "rag_v2": [1]})


@pytest.fixture
def steps(rag: EmbeddedServer) -> Iterator[Steps]:
    steps = Steps(rag.grpc_url)
    yield steps
    steps.client.close()


@pytest.fixture
def askers(rag: EmbeddedServer) -> Iterator[dict[str, Asker]]:
    askers = {name: Asker(rag.grpc_url, name) for name in ENSEMBLES}
    yield askers
    for asker in askers.values():
        asker.close()


def text(value: str) -> Any:
    return np.array([value.encode()], np.object_)


def test_each_ensemble_has_its_own_version_of_one_step(askers: dict[str, Asker], steps: Steps) -> None:
    """Counted by Triton: one version of the embedding for each, the other steps for both; the slow one costs more.

    It is the first of these tests: no request of another one is still to be counted.
    """
    models = ("rag_embedding", "rag_search", "smollm2")

    def counted() -> dict[str, dict[str, int]]:
        return {model: {version: count for version, (count, _) in steps.counts(model).items()} for model in models}

    wanted = counted()
    took: dict[str, list[int]] = {"1": [], "2": []}
    for _ in range(5):
        for name, embedding in zip(ENSEMBLES, took, strict=True):
            for model, version in (("rag_embedding", embedding), ("rag_search", "1"), ("smollm2", "1")):
                wanted[model][version] += 1
            spent = steps.counts("rag_embedding")[embedding][1]
            assert askers[name].ask(1, QUESTION, max_tokens=1).error == ""
            # Triton counts a request a little after it has answered it.
            until(lambda: counted() == wanted, f"the counts are {wanted}")
            took[embedding].append(steps.counts("rag_embedding")[embedding][1] - spent)
    assert min(took["2"]) > 3 * min(took["1"]), took


def test_it_hands_on_what_its_steps_say(steps: Steps, askers: dict[str, Asker], rag: EmbeddedServer) -> None:
    """Each step asked by itself, the next with its answer, ends in the answer of the ensemble."""
    asked = steps.ask("rag_tokenizer", text_input=text(f"  {QUESTION}\n"))
    assert asked["question"][0].decode() == QUESTION
    vector = steps.ask("rag_embedding", question=asked["question"])["vector"]
    assert vector.shape == (384,)
    found = steps.ask("rag_search", vector=vector)
    every = passages()
    assert [every[i].text for i in found["passage_ids"]] == [raw.decode() for raw in found["passages"]]
    assert every[found["passage_ids"][0]].topic == "with"
    assert found["scores"].tolist() == sorted(found["scores"], reverse=True)
    prompt = steps.ask("rag_prompt", **asked, passages=found["passages"])["prompt"][0].decode()
    assert QUESTION in prompt
    assert found["passages"][0].decode() in prompt

    llm = Asker(rag.grpc_url)
    by_hand = llm.ask(1, prompt, max_tokens=6, logprobs=3)
    llm.close()
    for name in ENSEMBLES:
        answer = askers[name].ask(1, QUESTION, max_tokens=6, logprobs=3)
        assert answer.text == by_hand.text
        assert answer.token_ids == by_hand.token_ids
        assert answer.input_tokens == by_hand.input_tokens > 100
        assert answer.topk_ids == by_hand.topk_ids


def test_the_answer_is_streamed(askers: dict[str, Asker]) -> None:
    answer = askers["rag_v1"].ask(1, QUESTION)
    assert len(answer.texts) == len(answer.token_ids) == 16
    assert answer.reasons == [""] * 15 + ["length"]
    assert answer.times == sorted(answer.times)
    assert answer.times[-1] > answer.times[0]


def test_what_was_found_is_what_the_answer_is_made_of(
    rag: EmbeddedServer, askers: dict[str, Asker], steps: Steps
) -> None:
    """The manual's definition is likelier for the ensemble than for the language model by itself."""
    question = "What is a context manager?"
    words = "A *context manager* is an object that defines the runtime context to be established"
    ids = steps.ask("rag_tokenizer", text_input=text(words))["question_ids"].tolist()
    plain = Asker(rag.grpc_url)

    def likely(asker: Asker) -> float:
        """Mean log-probability of the words; what is not among the 1000 likeliest counts as the last of them."""
        scored = asker.ask(1, question, forced_ids=ids, logprobs=1000)
        rows = zip(ids, scored.topk_ids, scored.topk_logprobs, strict=True)
        return float(np.mean([dict(zip(k, p, strict=True)).get(token, p[-1]) for token, k, p in rows]))

    found, unaided = likely(askers["rag_v1"]), likely(plain)
    plain.close()
    assert found > unaided + 0.5, (found, unaided)


def test_whole_answers_and_scores_pass_through(askers: dict[str, Asker]) -> None:
    made = askers["rag_v1"].ask(1, QUESTION, max_tokens=6, logprobs=5)
    whole = askers["rag_v2"].ask(1, QUESTION, max_tokens=6, stream=False)
    assert whole.texts == [made.text]
    assert whole.topk_ids == []
    scored = askers["rag_v2"].ask(1, QUESTION, forced_ids=made.token_ids, logprobs=5)
    assert scored.reasons == ["forced"]
    np.testing.assert_allclose(scored.topk_logprobs, made.topk_logprobs, atol=2e-3)


@pytest.mark.parametrize(
    ("question", "inputs", "message"),
    [(" \n", {}, "text_input is empty"), (QUESTION, {"max_tokens": 0}, "max_tokens must be at least 1")],
)
def test_an_error_of_a_step_is_the_ensembles_error(
    askers: dict[str, Asker], question: str, inputs: dict[str, Any], message: str
) -> None:
    """Of the first step and of the last; the next request is answered."""
    assert message in askers["rag_v1"].ask(1, question, **inputs).error
    assert askers["rag_v1"].ask(1, QUESTION, max_tokens=1).error == ""


def test_a_question_that_is_too_long_is_cut(askers: dict[str, Asker], steps: Steps) -> None:
    cut = steps.ask("rag_tokenizer", text_input=text("word " * 500))
    assert len(cut["question_ids"]) == 64
    assert cut["question"][0].decode() == ("word " * 64).strip()
    assert askers["rag_v1"].ask(1, "word " * 500, max_tokens=1).error == ""


def test_an_ensemble_goes_and_comes_back_beside_the_other(
    rag: EmbeddedServer, askers: dict[str, Asker], steps: Steps
) -> None:
    """Its steps stay as they are: a step that was initialised anew would count from 0."""
    served = {model: steps.counts(model) for model in ("rag_tokenizer", "rag_embedding", "smollm2")}
    assert served["smollm2"]["1"][0] > 0
    with Control(rag.http_url) as control:
        control.unload("rag_v2")
        assert control.loaded("rag_v2") == ()
        assert askers["rag_v1"].ask(1, QUESTION, max_tokens=1).error == ""
        control.set_versions("rag_v2", [1], repository=rag.repository)
    assert askers["rag_v2"].ask(1, QUESTION, max_tokens=1).error == ""

    def counted_on() -> bool:
        """Triton counts a request a little after it has answered it."""
        now = {model: steps.counts(model) for model in served}
        return all(
            now[model][version][0] > count or version == "2"
            for model, before in served.items()
            for version, (count, _) in before.items()
        )

    until(counted_on, f"every step has counted on from {served}")
