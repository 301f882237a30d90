"""The derived times of requests, and how much company a request had at its arm."""

from __future__ import annotations

import numpy as np

from harness.judge.columns import OK, TIMEOUT, Columns, Floats, Ints


def seconds(columns: Columns, metric: str) -> Floats:
    """The time `metric` (ttft.p50, response_time.mean, ...) of each row, NaN where there is none; icl of `gaps`' rows.

    Only answered requests have times, and time-outs: those are censored at what they had waited. A time-out
    before the first token has waited that long for it; its tpot is unknown.
    """
    counts = (columns.status == OK) | (columns.status == TIMEOUT)
    late = columns.status == TIMEOUT
    due, sent, first, done = (_known(t) for t in (columns.due_ns, columns.sent_ns, columns.first_ns, columns.done_ns))
    name = metric.split(".", 1)[0]
    if name == "response_time":
        values = np.where(columns.due_known, done - due, np.nan)
    elif name == "request_latency":
        values = done - sent
    elif name == "ttft":
        values = np.where(late & np.isnan(first), done, first) - sent
    elif name == "icl":  # of rows that are gaps
        values = done - first
    else:
        tokens = np.where(late, np.maximum(columns.osl, 2), columns.osl)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.where(tokens > 1, (done - first) / (tokens - 1), np.nan)
    return np.where(counts & (values >= 0), values / 1e9, np.nan)


def lengths(columns: Columns) -> Floats:
    """Output lengths of answered requests, NaN where unknown."""
    return np.where((columns.status == OK) & (columns.osl >= 0), columns.osl, np.nan).astype(np.float64)


def uncounted(columns: Columns, metric: str) -> bool:
    """The metric takes numbers of tokens, requests were answered, and nobody said of any answer how many it has."""
    answered = columns.osl[columns.status == OK]
    return metric.split(".", 1)[0] in ("tpot", "osl") and len(answered) > 0 and bool((answered < 0).all())


def _known(times_ns: Ints) -> Floats:
    return np.where(times_ns < 0, np.nan, times_ns.astype(np.float64))


def company(every: Columns, asked: Columns) -> Ints:
    """How many other requests of the same arm were in flight when each of `asked` was sent.

    `every`: all requests of that arm, those that score included, `asked` among them. Requests that were not
    yet done when the recording was cut are not in it and not counted. One that never left, for want of a free
    connection, had more company than any.
    """
    known = every.sent_ns >= 0
    sent, done = np.sort(every.sent_ns[known]), np.sort(every.done_ns[known])
    begun = np.searchsorted(sent, asked.sent_ns, side="right")
    over = np.searchsorted(done, asked.sent_ns, side="right")
    return np.where(asked.sent_ns >= 0, begun - over - 1, np.iinfo(np.int64).max)
