"""Recorded loads: the public traces' columns, and one clear line for what cannot be read."""

import json
from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario import trace
from harness.scenario.replay import prompts_of
from harness.scenario.trace import MOST_TEXT, Row, read_trace

# The first rows of AzureLLMInferenceTrace_conv.csv and of Mooncake's conversation_trace.jsonl.
AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,55
"""
MOONCAKE = """\
{"timestamp": 0, "input_length": 1055, "output_length": 52, "hash_ids": [46, 47, 48]}
{"timestamp": 27482, "input_length": 1200, "output_length": 26, "hash_ids": [46, 47, 2356]}
"""


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_azure(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, AZURE)) == (
        Row(0, 374, 44), Row(4_314_579_000, 396, 109), Row(4_541_877_000, 879, 55),
    )  # fmt: skip


@pytest.mark.parametrize(
    "second", ["2023-11-17 00:00:01", "2023-11-17T00:00:01.000", "2023-11-17 00:00:01.0000000+00:00"]
)
def test_dates_across_midnight(tmp_path: Path, second: str) -> None:
    zone = "+00:00" if "+" in second else ""
    text = f"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.5{zone},1,1\n{second},2,2\n"
    assert [row.t_ns for row in read_trace(written(tmp_path, text))] == [0, 1_500_000_000]


def test_zones_count(tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-12 02:00:00+02:00,1,1\n2024-05-12 00:00:03+00:00,2,2\n"
    assert [row.t_ns for row in read_trace(written(tmp_path, text))] == [0, 3_000_000_000]


def test_mooncake(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, MOONCAKE, "m.jsonl")) == (
        Row(0, 1055, 52, (46, 47, 48)), Row(27_482_000_000, 1200, 26, (46, 47, 2356)),
    )  # fmt: skip


def test_plain_columns_in_any_order_and_among_others(tmp_path: Path) -> None:
    rows = (Row(0, 10, 1), Row(500_000_000, 20, 2))
    text = "\ufeffuser,output_length,timestamp,input_length\nada,1,100.25,10\n\nbob,2,100.75,20\n"
    assert read_trace(written(tmp_path, text)) == rows
    lines = '\ufeff{"timestamp": 100.25, "input_length": 10, "output_length": 1}\n\n{"timestamp": 100.75, "input_length": 20, "output_length": 2}\n'  # noqa: E501
    assert read_trace(written(tmp_path, lines)) == rows


def test_rows_are_put_in_the_order_of_their_times(tmp_path: Path) -> None:
    text = "timestamp,input_length,output_length\n3,30,3\n1,10,1\n3,31,3\n"
    assert read_trace(written(tmp_path, text)) == (Row(0, 10, 1), Row(2 * 10**9, 30, 3), Row(2 * 10**9, 31, 3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("when,input_length,output_length\n", ":1: expected the columns timestamp, input_length, output_length or TIMESTAMP, ContextTokens, GeneratedTokens, found 'when', 'input_length', 'output_length'"),  # noqa: E501
        ("", ":1: expected the columns"),
        ("timestamp,input_length,output_length\n0,1,1\n1,many,1\n", ":3:3: input_length: expected a number of tokens from 0 to 1000000, found 'many'"),  # noqa: E501
        ("timestamp,input_length,output_length\n0,-1,1\n", ":2:3: input_length: expected a number of tokens from 0"),
        ("timestamp,input_length,output_length\n0,1\n", ":2: output_length: expected a number of tokens from 0 to 1000000, found nothing"),  # noqa: E501
        ("timestamp,input_length,output_length\nsoon,1,1\n", ":2:1: timestamp: expected a time in seconds, found"),
        ("timestamp,input_length,output_length\nnan,1,1\n", ":2:1: timestamp: expected a time in seconds"),
        (AZURE + "16.11.2023,1,1\n", ":5:1: TIMESTAMP: expected a date and time such as 2023-11-16 18:15:46.6805900, found '16.11.2023'"),  # noqa: E501
        ('{"timestamp": 0}\n', ":1: expected a line such as {\"timestamp\": 0, \"input_length\": 512, \"output_length\": 64}, found the keys 'timestamp'"),  # noqa: E501
        (MOONCAKE + "{oops\n", ":3:2: expected a line such as"),
        (MOONCAKE + "[1]\n", ":3: expected a line such as"),
        ('{"timestamp": true, "input_length": 1, "output_length": 1, "hash_ids": []}', ":1:2: timestamp: expected a time in milliseconds, found true"),  # noqa: E501
        ('{"timestamp": 0, "input_length": 1.5, "output_length": 1}', ":1:18: input_length: expected a number of"),
        ('{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": ["a"]}', ":1:57: hash_ids: expected a list of block numbers, found a list"),  # noqa: E501
    ],
)  # fmt: skip
def test_one_line_says_where_and_what(tmp_path: Path, text: str, expected: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ScenarioError) as caught:
        read_trace(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).removeprefix(str(path)).startswith(expected), str(caught.value)


def test_no_file_and_no_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a trace, found no file"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="expected a trace, found no row"):
        read_trace(written(tmp_path, "timestamp,input_length,output_length\n"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_trace(tmp_path / "bytes")
    with pytest.raises(ValueError, match=r"expected a trace, found .* field larger than field limit"):
        read_trace(written(tmp_path, "x" * 200_000))


def test_equal_blocks_give_equal_text_and_no_more(tmp_path: Path) -> None:
    rows = read_trace(written(tmp_path, MOONCAKE))
    first, second = (prompt.text.split() for prompt in prompts_of(rows, 1))
    assert (len(first), len(second)) == (1055, 1200)
    assert first[:1024] == second[:1024]
    assert first[1024:] != second[1024 : len(first)]
    assert [prompt.max_tokens for prompt in prompts_of(rows, 1)] == [52, 26]


def test_texts_are_fixed_by_the_seed() -> None:
    rows = (Row(0, 40, 1), Row(1, 40, 1), Row(2, 600, 5, (7,)))
    assert prompts_of(rows, 1) == prompts_of(rows, 1)
    texts = [prompt.text for prompt in prompts_of(rows, 1)]
    assert len(set(texts)) == 3
    assert all(one.text != other for one, other in zip(prompts_of(rows, 2), texts, strict=True))


def test_more_blocks_than_tokens() -> None:
    """The last block of a prompt is not always full."""
    (prompt,) = prompts_of((Row(0, 700, 1, (1, 2)),), 1)
    assert len(prompt.text.split()) == 700


def test_a_length_of_nothing_is_taken_as_one(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, AZURE + "2023-11-16 18:16:00,0,0\n"))[-1][1:] == (1, 1, ())
    zeros = '{"timestamp": 0, "input_length": 0, "output_length": 0, "hash_ids": []}'
    assert read_trace(written(tmp_path, zeros)) == (Row(0, 1, 1),)


def test_too_much_text_is_refused_before_it_is_made_or_even_read(tmp_path: Path) -> None:
    lines = ["timestamp,input_length,output_length", *(f"{second},1000000,1" for second in range(51)), "unreadable"]
    path = written(tmp_path, "\n".join(lines))
    with pytest.raises(ValueError, match=f"^its first 51 rows ask for 51000000 tokens of text, at most {MOST_TEXT} "):
        read_trace(path)
    assert len(read_trace(written(tmp_path, "\n".join(lines[:51])))) == 50


S = 10**9
BEYOND = 3


@pytest.fixture
def few_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "BEYOND_ROWS", BEYOND)
    monkeypatch.setattr(trace, "BEYOND_NS", 20 * S)


def seconds(folder: Path, times: list[object], until_s: int) -> list[int]:
    text = "\n".join(["timestamp,input_length,output_length", *(f"{at},1,1" for at in times)])
    return [row.t_ns // S for row in read_trace(written(folder, text), until_s * S)]


@pytest.mark.usefixtures("few_beyond")
def test_no_more_is_read_than_a_stage_needs(tmp_path: Path) -> None:
    # One row beyond tells that the trace goes on.
    assert seconds(tmp_path, [*range(10), 30, 31, 32, "not read"], 5) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ScenarioError, match=":14:1: timestamp: expected a time in seconds"):
        seconds(tmp_path, [*range(10), 24, 23, "read", *range(60, 90)], 5)


@pytest.mark.usefixtures("few_beyond")
def test_a_log_in_another_order_is_read_to_where_nothing_can_follow(tmp_path: Path) -> None:
    # By 20 s, by three rows, backwards: whichever is more.
    assert seconds(tmp_path, [3, 9, 4, 15, 2, 24, 23, 1, 60, 61, 0, 62, 63, 64, "not read"], 5) == [0, 1, 2, 3, 4, 9]
    assert seconds(tmp_path, [*range(90, 10, -10)], 25) == [0, 10, 20, 30]
    assert seconds(tmp_path, [2, 0, 1], 5) == [0, 1, 2]


@pytest.mark.usefixtures("few_beyond")
def test_a_log_that_goes_backwards_is_not_refused_for_what_it_does_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "MOST_TEXT", 5)
    assert seconds(tmp_path, [*range(90, 0, -1)], 5) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="its first 6 rows ask for 6 tokens"):
        seconds(tmp_path, [*range(90, 0, -1)], 6)


def test_a_large_file_costs_what_is_replayed_of_it(tmp_path: Path) -> None:
    lines = (f"2024-05-10 {at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}.5+00:00,9,9\n" for at in range(86400))
    path = written(tmp_path, f"TIMESTAMP,ContextTokens,GeneratedTokens\n{''.join(lines)}unreadable\n")
    assert len(read_trace(path, 60 * S)) == 61


def test_the_whole_of_a_long_trace_is_read(tmp_path: Path) -> None:
    lines = [
        json.dumps({"timestamp": i * 3, "input_length": 7, "output_length": 1, "hash_ids": [i]}) for i in range(5000)
    ]
    rows = read_trace(written(tmp_path, "\n".join(lines)))
    assert len(rows) == 5000
    assert rows[-1] == Row(4999 * 3 * 10**6, 7, 1, (4999,))
