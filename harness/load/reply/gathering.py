"""What the chunks of a token model's answer amount to, whichever wire they came over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.load.reply.reply import Reply

_LARGEST_ID = 2**31 - 1
LOGPROB = ("cumulative_logprob", "cum_log_probs")
"""Outputs with the log-probability of the answer so far, of vLLM's backend (and the LLM API), and of TensorRT-LLM."""


def clean(text: str) -> str:
    """Text that can be written: JSON can name halves of characters that no file takes."""
    return text.encode("utf-8", "replace").decode()


def ids(values: Sequence[Any]) -> list[int]:
    """Token ids as an Output has room for them. Raises ValueError or TypeError for what is none."""
    whole = [int(value) for value in values]
    if whole and not 0 <= min(whole) <= max(whole) <= _LARGEST_ID:
        raise ValueError("a token id that is none")
    return whole


def logprob(values: Sequence[Any], before: float | None) -> float | None:
    """What an output of LOGPROB says by now: each chunk has the sum so far; TensorRT-LLM's LLM API writes it as text,
    "None" where it has none. Raises ValueError or TypeError for what is no number.
    """
    if not values or values[0] in (None, b"None", "None"):
        return before
    return float(values[0])


class Gathering:
    """Fills a Reply chunk by chunk. `keep`: text and tokens are wanted, not only their number and time."""

    __slots__ = ("_counted", "_keep", "_pieces", "_reply", "_some", "_streams")

    def __init__(self, reply: Reply, *, keep: bool, streams: bool) -> None:
        self._reply = reply
        self._keep = keep
        self._streams = streams
        self._pieces: list[bytes] = []
        self._some = False
        self._counted = -1

    def text(self, piece: bytes) -> None:
        """A piece of the answer; a character may be cut in two between pieces."""
        if piece:
            self._some = True
            if self._keep:
                self._pieces.append(piece)

    def tokens(self, number: int) -> None:
        """So many tokens came, whatever their text."""
        self._counted = max(self._counted, 0) + number
        if number:
            self._some = True

    def beside(self) -> None:
        """Tokens came that are no text of the answer, such as a call of a tool."""
        self._some = self._reply.more = True

    def counted(self, number: int) -> None:
        """The engine says that so many more tokens came, which may have been held back: no sign of a chunk."""
        self._counted = max(self._counted, 0) + number

    def reason(self, reason: Any) -> None:
        """vLLM's backend writes "None" while it goes on."""
        if reason and reason != "None":
            self._reply.finish_reason = clean(str(reason))

    def chunk(self, t_ns: int) -> None:
        """What was told since the last call arrived at `t_ns`."""
        if self._some:
            self._some = False
            reply = self._reply
            if reply.first_ns < 0:
                reply.first_ns = t_ns
            if self._streams:
                reply.chunks_ns.append(t_ns)

    def end(self) -> None:
        # Text is decoded once, whole.
        self._reply.text = b"".join(self._pieces).decode(errors="replace")
        if self._counted >= 0:
            self._reply.osl = self._counted
