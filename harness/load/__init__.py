"""Due times to requests.

The parent's side is `Generator` (a handle of the Locust processes) and `LoadSpec` (what they are told). In them
`process` speaks with the parent, and `engine` does the work in a thread of its own. Only `process` imports locust and
gevent.
"""

from harness.load.client import Generator
from harness.load.payload import FRONT_END
from harness.load.spec import LoadSpec, wire_of

__all__ = ["FRONT_END", "Generator", "LoadSpec", "wire_of"]
