"""Two answers side by side, parted where they first differ."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from harness.recording.schema import OUTPUTS
from harness.report.examples import Side, sides
from harness.report.page import page
from tests.report import factory


def test_they_part_at_the_first_word_that_differs() -> None:
    assert sides("The sky is blue", "The sky is black, no") == (
        Side("The sky is ", "blue"), Side("The sky is ", "black, no"),
    )  # fmt: skip
    assert sides("yes", "no") == (Side("", "yes"), Side("", "no"))


def test_one_that_goes_on_is_marked_in_what_it_has_more() -> None:
    assert sides("a b", "a b c") == (Side("a ", "b"), Side("a ", "b c"))
    assert sides("a b\n", "a b\nc") == (Side("a b\n", ""), Side("a b\n", "c"))


def test_equal_answers_have_no_mark() -> None:
    assert sides("all the same", "all the same") == (Side("all the same", ""),) * 2


def test_a_difference_far_behind_is_shown_all_the_same() -> None:
    start = "word " * 2000
    left, right = sides(start + "here", start + "there " + "x" * 5000)
    assert left.same == right.same
    assert left.same.startswith("(cut) … ")
    assert left.rest == "here"
    assert right.rest.startswith("there x")
    assert right.rest.endswith(" … (cut)")
    assert len(right.same + right.rest) < 1600


def test_the_page_marks_them_and_names_the_prompt() -> None:
    made = factory.recording(plans=factory.PLANS[:1], drifts=1.2)
    rows = made.outputs.to_pylist()
    for row in rows:
        row["prompt"] = 11
        row["text"] = "so far <b>equal</b>, then " + ("<i>left" if row["arm"] == "baseline" else "<i>right")
    text = page(dataclasses.replace(made, outputs=pa.Table.from_pylist(rows, OUTPUTS)), factory.promote())
    assert ", prompt 12:" in text
    assert "<pre>so far &lt;b&gt;equal&lt;/b&gt;, then <mark>&lt;i&gt;left</mark></pre>" in text
    assert "<mark>&lt;i&gt;right</mark></pre>" in text
