"""A model's configuration under another name, and what two configurations say differently."""

from __future__ import annotations

import pytest

from harness.errors import UsageError, WorldError
from harness.triton import changed_values, parse_config, rename_models

NAMES = {"both": "both.x", "tok": "tok.x", "llm": "llm.x"}


def test_only_the_name_is_edited() -> None:
    text = b'# name: "tiny"\nname: "tiny" # the name\nmax_batch_size: 4\ninput [ { name: "tiny" dims: [ 1 ] } ]\n'
    assert rename_models(text, "tiny", {"tiny": "tiny.base"}) == text.replace(
        b'name: "tiny" # the', b'name: "tiny.base" # the'
    )


def test_a_configuration_without_a_name_stays_without() -> None:
    assert rename_models(b"max_batch_size: 4\n", "tiny", {"tiny": "tiny.base"}) == b"max_batch_size: 4\n"


@pytest.mark.parametrize(
    "steps",
    [
        'step [ { model_name: "tok" model_version: -1 }, { model_version: 1 model_name: "llm" } ]',
        "step { model_name: 'tok' } step: < model_name: 'l' 'lm' >",
        'step [ { input_map { key: "model_name" value: "tok" } model_name: "tok" }, { model_name: "llm" } ]',
    ],
)
def test_the_steps_of_an_ensemble_are_asked_by_their_new_names(steps: str) -> None:
    text = f'name: "both"\nplatform: "ensemble"\nensemble_scheduling {{ {steps} }}\n'.encode()
    found = parse_config(rename_models(text, "both", NAMES), "x")
    assert found["name"] == "both.x"
    assert [step["model_name"] for step in found["ensemble_scheduling"]["step"]] == ["tok.x", "llm.x"]


def test_a_step_that_is_not_renamed_keeps_its_name() -> None:
    text = b'ensemble_scheduling { step [ { model_name: "tok" }, { model_name: "other" } ] }'
    found = parse_config(rename_models(text, "both", NAMES), "x")
    assert [step["model_name"] for step in found["ensemble_scheduling"]["step"]] == ["tok.x", "other"]


def test_what_the_scanner_reads_otherwise_than_triton_is_not_edited() -> None:
    """A step that kept its name would be the user's own model."""
    text = rb'ensemble_scheduling { step [ { model_name: "t\157k" } ] }'
    with pytest.raises(WorldError, match="x: the names in it cannot be edited safely"):
        rename_models(text, "both", NAMES, "x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'name: "llm"', r"x: is the configuration of 'llm', in the folder of 'tok'"),
        (b"max_batch_size: many", r"x: is not a model configuration"),
        (b"\xff", r"x: is not a model configuration: not UTF-8"),
    ],
)
def test_what_cannot_be_renamed_is_one_line(text: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        rename_models(text, "tok", NAMES, "x")


def test_values_are_compared_and_not_their_layout() -> None:
    old = b"max_batch_size: 8\ninstance_group [ { count: 1 } ]\ninput [ { name: 'A' dims: [ 1, 2 ] } ]\n"
    new = b"input { name: 'A' dims: 1 dims: 3 }\ninstance_group { count: 1 }\ndynamic_batching { }\nmax_batch_size: 8"
    assert changed_values(parse_config(old, "x"), parse_config(new, "x")) == (
        ("input[A].dims", "1, 2", "1, 3"), ("dynamic_batching", "", "{}"),
    )  # fmt: skip
    delay = b"dynamic_batching { max_queue_delay_microseconds: 500 }"
    assert changed_values({}, parse_config(delay, "x")) == (
        ("dynamic_batching.max_queue_delay_microseconds", "", "500"),
    )
