"""Files of the same tools that cannot be judged: they are about a whole run, and no request is told from another."""

from __future__ import annotations

_SUMMARY = "is a summary of a whole run, in which no request is told from another; give "
_LOCUST = "the *_stats_history.csv beside it (errors only), or let locust-plugins' JmeterListener write a row a request"
# What a file begins with, or has within its first 64 KiB.
_BEGINS = {
    b"Type,Name,Request Count,": _SUMMARY + _LOCUST,
    b"Method,Name,Error,Occurrences": "lists the failures of a whole run by kind; give " + _LOCUST,
    b"Count,Message,Traceback": "lists exceptions of Locust's own tasks; give " + _LOCUST,
    b"Concurrency,Inferences/Second": _SUMMARY + "what perf_analyzer writes with --profile-export-file",
    b"Request Rate,Inferences/Second": _SUMMARY + "what perf_analyzer writes with --profile-export-file",
    b"Metric,avg,min,max": _SUMMARY + "the profile_export.jsonl beside it",
    b'{"type":"Metric"': "is k6's JSON output; give what it writes with --out csv=FILE",
    b'{"metric":"': "is k6's JSON output; give what it writes with --out csv=FILE",
}
_HAS = {
    (b'"aiperf_version"', b'"request_latency"'): _SUMMARY + "the profile_export.jsonl beside it",
    (b'"root_group"', b'"metrics"'): _SUMMARY + "what k6 writes with --out csv=FILE",
    (b'"http_req_duration"', b'"metrics"'): _SUMMARY + "what k6 writes with --out csv=FILE",
}


def why(head: bytes) -> str:
    """Why a file that begins with `head` cannot be judged, and what can; "" if it is none of these."""
    for begin, reason in _BEGINS.items():
        if head.startswith(begin):
            return reason
    return next((reason for keys, reason in _HAS.items() if all(key in head for key in keys)), "")
