"""Due times to requests.

The parent's side is `Generator` (a handle of the Locust processes) and `LoadSpec` (what they are told); another host
takes part by `join`. In the Locust processes `process` speaks with the parent, and `engine` does the work in a thread
of its own. Only `process` imports locust and gevent.
"""

from harness.load.client import Generator
from harness.load.joining import join
from harness.load.launch import DEFAULT_PORT, LOOPBACK, Listen
from harness.load.process.join import new_token
from harness.load.spec import FRONT_END, LoadSpec, Routed, wire_of

__all__ = [
    "DEFAULT_PORT", "FRONT_END", "LOOPBACK", "Generator", "Listen", "LoadSpec", "Routed", "join", "new_token",
    "wire_of",
]  # fmt: skip
