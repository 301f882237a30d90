"""Files of other tools as samples: what each says and what it does not, by files that the tools wrote."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from harness.errors import UsageError
from harness.recording import SCHEMAS
from harness.recording.importers import FORMATS, Run, read
from tests.recording.imports import DATA, aiperf

MS = 1_000_000


def rows(run: Run) -> list[dict[str, Any]]:
    assert run.samples.schema == SCHEMAS["samples"]
    assert pc.max(run.samples["due_ns"]).as_py() == -1, "no tool says when a request was due"
    return run.samples.to_pylist()


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text.removeprefix(str(path))


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_every_file_is_recognised_by_what_is_in_it(tmp_path: Path) -> None:
    for path in (*DATA.glob("*.jsonl"), *DATA.glob("perf*.json"), *DATA.glob("k6*.csv"), *DATA.glob("locust*y.csv")):
        head = path.read_bytes()
        assert sum(kind.recognises(head) for kind in FORMATS) == 1, path.name
    renamed = tmp_path / "anything"
    shutil.copy(DATA / "k6_both.csv", renamed)
    assert read(renamed).tool == "k6"


# ---------------------------------------------------------------- AIPerf


def test_aiperf_times_tokens_and_load() -> None:
    run = read(DATA / "aiperf.jsonl")
    lines = [json.loads(line) for line in (DATA / "aiperf.jsonl").read_text().splitlines()]
    profiled = [line for line in lines if line["metadata"]["benchmark_phase"] == "profiling"]
    assert len(rows(run)) == len(profiled) == 8
    for row, line in zip(rows(run), profiled, strict=True):
        metrics = line["metrics"]
        latency, ttft = row["done_ns"] - row["sent_ns"], row["first_ns"] - row["sent_ns"]
        assert row["sent_ns"] == line["metadata"]["request_start_ns"]
        assert latency / MS == pytest.approx(metrics["request_latency"]["value"], abs=0.01)
        assert ttft / MS == pytest.approx(metrics["time_to_first_token"]["value"], abs=1e-3)
        tpot = (latency - ttft) / (row["osl"] - 1) / MS
        assert tpot == pytest.approx(metrics["inter_token_latency"]["value"], rel=1e-3), "AIPerf means the same by it"
        assert (row["status"], row["isl"], row["arm"]) == ("ok", -1, "")
    assert run.loads == ("concurrency 2, type concurrency",)
    assert run.tokens == "the tokenizer smollm2"
    assert run.notes == ("2 requests of its warm-up are left out",)


def test_aiperf_failures_become_statuses() -> None:
    found = [
        (row["status"], row["error"], row["code"], row["first_ns"]) for row in rows(read(DATA / "aiperf_errors.jsonl"))
    ]
    assert found == [
        ("error", "Not Found", "404", -1),
        ("timeout", "TimeoutError", "", -1),
        ("refused", "ClientConnectorError", "", -1),
        ("error", "InvalidInferenceResultError", "", -1),
    ]


def test_a_cancelled_request_failed_nobody(tmp_path: Path) -> None:
    def cancel(number: int, entry: dict[str, Any]) -> None:
        if number == 1:
            entry["metadata"]["was_cancelled"] = True
            entry["error"] = {"code": 499, "type": "RequestCancellationError", "message": "cancelled"}

    statuses = [row["status"] for row in rows(read(aiperf(tmp_path / "a.jsonl", 3, change=cancel)))]
    assert statuses == ["ok", "cancelled", "ok"]


def test_without_its_summary_the_load_is_unknown(tmp_path: Path) -> None:
    path = shutil.copy(DATA / "aiperf.jsonl", tmp_path / "moved.jsonl")
    run = read(Path(path))
    assert run.loads == ("",)
    assert run.tokens == "the tokenizer that AIPerf was given"


@pytest.mark.parametrize("cut", [1, 40, 700])
def test_a_last_line_that_was_cut_off_is_left_out_and_said(tmp_path: Path, cut: int) -> None:
    path = aiperf(tmp_path / "killed.jsonl", 5)
    path.write_bytes(path.read_bytes()[: -cut - 1])
    run = read(path)
    lost = 1 + cut // len(path.read_bytes().splitlines()[0])
    assert len(rows(run)) == 5 - lost
    assert run.notes == (f"its last line is cut off: the {5 - lost} before it count",)


def test_a_last_line_without_its_newline_counts(tmp_path: Path) -> None:
    path = aiperf(tmp_path / "a.jsonl", 5)
    path.write_bytes(path.read_bytes()[:-1])
    assert len(rows(read(path))) == 5
    assert read(path).notes == ()


def test_aiperf_mistakes_are_named(tmp_path: Path) -> None:
    path = aiperf(tmp_path / "a.jsonl", 4)
    lines = path.read_text().splitlines()

    def changed(number: int, old: str, new: str) -> str:
        assert old in lines[number]
        text = "\n".join([*lines[:number], lines[number].replace(old, new), *lines[number + 1 :]]) + "\n"
        return refusal(written(tmp_path / "b.jsonl", text))

    assert changed(2, '"metadata"', "metadata").startswith(":3: is not JSON")
    assert changed(1, '"request_start_ns": 18', '"request_start_ns": "x18').startswith(":2: is not JSON")
    text = lines[3].split('"request_end_ns": ')[1].split(",")[0]
    assert changed(3, f'"request_end_ns": {text}', '"request_end_ns": "late"') == (
        ":4: metadata.request_end_ns: expected a number, found 'late'"
    )
    assert (
        changed(3, f'"request_end_ns": {text}, ', "")
        == ":4: metadata.request_end_ns: expected a number of ns, found none"
    )
    assert "expected a unit of ns, us, ms" in changed(0, '"unit": "ms"', '"unit": "fortnights"')


# ---------------------------------------------------------------- perf_analyzer


def test_perf_analyzer_times() -> None:
    run = read(DATA / "perf_analyzer_rate.json")
    raw = json.loads((DATA / "perf_analyzer_rate.json").read_text())["experiments"][0]["requests"]
    found = [(row["sent_ns"], row["done_ns"]) for row in rows(run)]
    assert found == [(one["timestamp"], one["response_timestamps"][-1]) for one in raw]
    assert {row["first_ns"] for row in rows(run)} == {-1}, "one answer has no first token"
    assert run.loads == ("request_rate 30.0",)
    assert run.tokens == ""
    assert "only that none failed" in run.notes[0]


def test_the_first_token_is_the_first_answer_with_text(tmp_path: Path) -> None:
    document = json.loads((DATA / "perf_analyzer_stream.json").read_text())
    first = document["experiments"][0]["requests"][0]
    assert rows(read(DATA / "perf_analyzer_stream.json"))[0]["first_ns"] == first["response_timestamps"][0]
    assert {row["osl"] for row in rows(read(DATA / "perf_analyzer_stream.json"))} == {-1}, "nobody counted"
    first["response_outputs"][0]["text_output"] = ""
    changed = written(tmp_path / "p.json", json.dumps(document))
    row = rows(read(changed))[0]
    assert (row["first_ns"], row["done_ns"]) == (first["response_timestamps"][1], first["response_timestamps"][-1])


def test_another_service_s_chunks_are_no_tokens(tmp_path: Path) -> None:
    document = json.loads((DATA / "perf_analyzer_stream.json").read_text())
    run = read(written(tmp_path / "p.json", json.dumps({**document, "service_kind": "openai"})))
    assert {row["first_ns"] for row in rows(run)} == {-1}
    assert "no ttft" in run.notes[-1]


def test_each_level_is_a_stage() -> None:
    run = read(DATA / "perf_analyzer_levels.json")
    assert run.loads == ("concurrency 1", "concurrency 2")
    assert [row["stage"] for row in rows(run)] == [0] * 20 + [1] * 20


def test_a_request_without_an_answer_is_an_error(tmp_path: Path) -> None:
    document = json.loads((DATA / "perf_analyzer_rate.json").read_text())
    document["experiments"][0]["requests"][3]["response_timestamps"] = []
    run = read(written(tmp_path / "p.json", json.dumps(document)))
    assert [row["status"] for row in rows(run)].count("error") == 1
    assert "1 of its requests have no answer" in run.notes[-1]


def test_perf_analyzer_mistakes_are_named(tmp_path: Path) -> None:
    text = (DATA / "perf_analyzer_rate.json").read_text()
    path = tmp_path / "p.json"
    assert "is not JSON" in refusal(written(path, text[:5000]))
    assert "timestamp" in refusal(written(path, text.replace('"timestamp":1', '"timestamp":0.1')))
    assert "experiments.0.requests: expected" in refusal(written(path, text.replace('"requests"', '"asked"')))


# ---------------------------------------------------------------- k6


def test_k6_holds_both_arms_and_knows_failures() -> None:
    found = [(row["arm"], row["status"], row["code"]) for row in rows(read(DATA / "k6_both.csv"))]
    assert [one[1:] for one in found if one[0] == "baseline"] == [("ok", "200")] * 6
    timeout = ("timeout", "0")
    assert [one[1:] for one in found if one[0] == "candidate"] == [
        *[("ok", "200"), timeout, timeout],
        *[("error", "500"), timeout, ("ok", "200")],
    ]


def test_k6_duration_is_request_latency_and_its_stamp_the_end() -> None:
    row = rows(read(DATA / "k6_both.csv"))[0]
    assert row["done_ns"] == 1795928027809 * MS
    assert row["done_ns"] - row["sent_ns"] == 11_559_967
    assert row["first_ns"] == -1, "the first byte is no first token"
    assert not read(DATA / "k6_both.csv").notes


def test_k6_time_formats(tmp_path: Path) -> None:
    text = (DATA / "k6_both.csv").read_text()
    for stamp in ("1795928027809000", "1795928027809000000", "2026-11-29T04:53:47.809Z"):
        one = [line for line in text.splitlines(True) if ",1795928027809," in line]
        changed = "".join([text.splitlines(True)[0], *one]).replace("1795928027809", stamp)
        run = read(written(tmp_path / "k6.csv", changed))
        assert rows(run)[0]["done_ns"] == 1795928027809 * MS, stamp
    assert "whole seconds" in read(DATA / "k6_grpc.csv").notes[0]


def test_k6_grpc_calls_and_connections_that_failed() -> None:
    assert [(row["status"], row["code"]) for row in rows(read(DATA / "k6_grpc.csv"))] == [("ok", "0")] * 3
    refused = rows(read(DATA / "k6_refused.csv"))
    assert [(row["status"], row["error"]) for row in refused] == [("refused", "dial: connection refused")] * 2
    assert refused[0]["sent_ns"] == -1, "a request that never left has no latency"


def test_k6_gzipped(tmp_path: Path) -> None:
    path = tmp_path / "k6.gz"
    path.write_bytes(gzip.compress((DATA / "k6_both.csv").read_bytes()))
    assert read(path).samples.equals(read(DATA / "k6_both.csv").samples)
    path.write_bytes(path.read_bytes()[:-200])
    assert "k6" in refusal(path)


@pytest.mark.parametrize("name", ["k6_both.csv", "locust_stats_history.csv"])
def test_a_csv_that_was_cut_off_counts_as_far_as_it_goes(tmp_path: Path, name: str) -> None:
    lines = (DATA / name).read_text().splitlines(True)
    path = written(tmp_path / "cut", "".join([*lines, lines[-1][:30]]))
    assert read(path).samples.equals(read(DATA / name).samples)
    assert "cut off" in read(path).notes[-1]
    assert "as many columns" in refusal(written(path, "".join([*lines[:3], lines[1][:30] + "\n", *lines[3:]])))


def test_k6_mistakes_are_named(tmp_path: Path) -> None:
    text, path = (DATA / "k6_both.csv").read_text(), tmp_path / "k6.csv"
    assert "column error_code is missing" in refusal(written(path, text.replace("error_code", "code")))
    assert "column timestamp" in refusal(written(path, text.replace(",1795928027809,", ",soon,")))
    assert "no row of http_req_duration" in refusal(written(path, text.splitlines()[0] + "\n"))


# ---------------------------------------------------------------- Locust


def test_locust_requests_are_timed_to_the_fraction() -> None:
    run = read(DATA / "locust_requests.csv")
    found = rows(run)
    assert [row["status"] for row in found][:3] == ["error", "timeout", "ok"]
    assert (found[0]["code"], found[0]["error"], found[1]["error"]) == ("500", "http 500", "HTTPConnectionPool")
    assert found[0]["done_ns"] - found[0]["sent_ns"] == 430_555_870
    assert (run.loads, run.step_ns, run.loses, run.tool) == (("2 users",), 1, "", "Locust")


def test_the_plugin_s_listener_loses_what_got_no_answer() -> None:
    run = read(DATA / "locust_listener.csv")
    counted = read(DATA / "locust_failing_stats_history.csv")
    assert pc.sum(pc.equal(run.samples["status"], "error")).as_py() == 5
    assert pc.sum(pc.equal(counted.samples["status"], "error")).as_py() == 12, "what Locust itself counted"
    assert "loses requests" in run.loses
    assert run.step_ns == MS


def test_a_comma_in_an_exception_moves_no_column(tmp_path: Path) -> None:
    lines = (DATA / "locust_listener.csv").read_text().splitlines()
    lines[1] = lines[1].replace(
        "500 Server Error: Internal Server Error", "Pool(host='a', port=1): Read timed out, sorry"
    )
    run = read(written(tmp_path / "l.csv", "\n".join([*lines, "  File x, line 3"]) + "\n"))
    found = rows(run)
    assert len(found) == len(lines) - 1
    assert [(row["status"], row["done_ns"] - row["sent_ns"]) for row in found if row["status"] == "timeout"] == [
        ("timeout", 371 * MS)
    ]
    assert "1 of its lines are no rows and are left out" in run.notes


def test_jmeter_stamps_the_beginning_and_quotes(tmp_path: Path) -> None:
    head = (
        "timeStamp,elapsed,label,responseCode,responseMessage,threadName,dataType,success,failureMessage,allThreads\n"
    )
    run = read(written(tmp_path / "j.jtl", head + '1766362285195,104,"a, b",200,OK,t 1-1,text,true,,10\n'))
    row = rows(run)[0]
    assert (row["sent_ns"], row["done_ns"]) == (1766362285195 * MS, 1766362285299 * MS)
    assert (run.tool, run.loads) == ("JMeter", ("10 users",))


def test_the_history_has_failures_and_no_times() -> None:
    run = read(DATA / "locust_failing_stats_history.csv")
    found = rows(run)
    assert len(found) == 20
    assert [row["status"] for row in found].count("error") == 12
    assert {row["sent_ns"] for row in found} == {-1}
    assert sum(row["done_ns"] == 1795927032 * 10**9 for row in found) == 4
    assert "only errors can be judged" in run.notes[0]


def test_the_history_tells_arms_apart_by_name(tmp_path: Path) -> None:
    text = (DATA / "locust_failing_stats_history.csv").read_text().replace(",infer,", ",infer candidate,")
    more = (DATA / "locust_stats_history.csv").read_text().splitlines()[1:]
    named = [line.replace("Aggregated", "infer baseline") for line in more]
    run = read(written(tmp_path / "h.csv", text + "\n".join(named) + "\n"))
    counts = {one["values"]: one["counts"] for one in run.samples["arm"].value_counts().to_pylist()}
    assert counts == {"candidate": 20, "baseline": int(more[-1].split(",")[17])}


# ---------------------------------------------------------------- what cannot be judged


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("locust_stats.csv", "_stats_history.csv beside it"),
        ("locust_failures.csv", "_stats_history.csv beside it"),
        ("aiperf_aiperf.json", "profile_export.jsonl"),
    ],
)
def test_summaries_are_refused_and_say_what_to_give(name: str, says: str) -> None:
    assert says in refusal(DATA / name)


def test_anything_else_is_refused(tmp_path: Path) -> None:
    assert "expected a file" in refusal(tmp_path)
    assert "no such file" in refusal(tmp_path / "nowhere")
    assert "profile_export.jsonl" in refusal(written(tmp_path / "a", ""))
    assert "not a whole Parquet file" in refusal(written(tmp_path / "b", "PAR1 and no more"))
    assert "--out csv" in refusal(written(tmp_path / "c", "hello"))
    pq.write_table(pa.table({"arm": ["baseline"]}), tmp_path / "d")
    assert "column due_ns is missing" in refusal(tmp_path / "d")
