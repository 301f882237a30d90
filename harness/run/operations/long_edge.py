"""Which context to ask next, to find where memory ends: from where it is foretold, then halving what lies between."""

from __future__ import annotations

FAR = 2.0
"""An edge beyond so many times the goal's context is not looked for."""


def next_context(ok: float, bad: float | None, foretold: float | None, goal: int, within: float) -> int | None:
    """In tokens; None where it is known to `within` (a ratio), or lies too far, or there is nothing between.

    `ok`: the longest context that was answered, 0 for none; `bad`: the shortest that ran out of memory. `foretold` may
    be infinite, and is None where nothing is known of it.
    """
    if bad is None:
        if ok * (1 + within) >= FAR * goal:
            return None
        high = (FAR * goal if foretold is None else foretold) * (1 + within / 2)
        beyond = max(high, ok * (1 + within)) if ok < high else ok * (1 + 2 * within)
        return round(min(beyond, FAR * goal))
    if ok and bad / ok - 1 <= within:
        return None
    around = () if foretold is None else (foretold * (1 - within / 2), foretold * (1 + within / 2))
    context = round(next((one for one in around if ok + 0.5 < one < bad - 0.5), (ok + bad) / 2))
    return context if ok < context < bad else None
