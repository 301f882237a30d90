"""max_batch_size in the text of a config.pbtxt: that, the preferred sizes above it, and nothing else."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.triton.max_batch import edit_max_batch, only_resized

CONFIG = """\
# max_batch_size: 99 in a comment
name: "llm"
backend: "python"
max_batch_size: 8  # as on the old cards
dynamic_batching {
  preferred_batch_size: [ 2, 4, 8 ]
  max_queue_delay_microseconds: 100
}
parameters { key: "max_batch_size" value { string_value: "8" } }
"""


def test_the_size_and_the_preferred_sizes_above_it() -> None:
    assert edit_max_batch(CONFIG, 4) == CONFIG.replace("max_batch_size: 8  #", "max_batch_size: 4  #").replace(
        "[ 2, 4, 8 ]", "[ 2, 4 ]"
    )


def test_no_preferred_size_is_left() -> None:
    edited = edit_max_batch(CONFIG, 1)
    assert "preferred_batch_size" not in edited
    assert "max_queue_delay_microseconds: 100" in edited


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("max_batch_size:8", "max_batch_size: 3"),
        ("max_batch_size: 8\ndynamic_batching { preferred_batch_size: 2 preferred_batch_size: 8 }",
         "max_batch_size: 3\ndynamic_batching { preferred_batch_size: 2  }"),
        ("max_batch_size: 8 dynamic_batching { preferred_batch_size: [8], max_queue_delay_microseconds: 1 }",
         "max_batch_size: 3 dynamic_batching {  max_queue_delay_microseconds: 1 }"),
        ("max_batch_size: 8 dynamic_batching { preferred_batch_size: 8 , max_queue_delay_microseconds: 1 }",
         "max_batch_size: 3 dynamic_batching {  max_queue_delay_microseconds: 1 }"),
        ("max_batch_size: 0x8 dynamic_batching { preferred_batch_size: [ 0x2, 010 ] }",
         "max_batch_size: 3 dynamic_batching { preferred_batch_size: [ 2 ] }"),
        ("max_batch_size: 8\r\ndynamic_batching { }\r\n", "max_batch_size: 3\r\ndynamic_batching { }\r\n"),
    ],
)  # fmt: skip
def test_other_layouts(before: str, after: str) -> None:
    assert edit_max_batch(before, 3) == after
    assert only_resized(after, before)
    assert not only_resized(f"{after}\n# and something else", before)
    assert not only_resized("no configuration", before)


@pytest.mark.parametrize(
    ("text", "size", "said"),
    [
        ("max_batch_size: 0", 1, "max_batch_size is 0: Triton forms no batches of it"),
        ('name: "m"', 1, "max_batch_size is 0"),
        ("max_batch_size: 4", 0, "a max_batch_size of 0: at least 1"),
        ("max_batch_size: four", 1, "m/config.pbtxt: is not a model configuration"),
    ],
)
def test_what_cannot_be(text: str, size: int, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        edit_max_batch(text, size, "m/config.pbtxt")
