"""What was answered: the bytes that came back, with the time of each, to what a Sample and an Output say.

    reader = Reader(model, wire, digests=False, tokens=False)
    reply = reader.read(exchange)

Reading happens after an answer is complete, so that it disturbs no clock, and takes apart only what is wanted.
"""

from harness.load.reply.reader import Reader
from harness.load.reply.reply import Reply

__all__ = ["Reader", "Reply"]
