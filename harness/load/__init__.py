"""Due times to requests.

The parent's side is `Generator` (a handle of one Locust process) and `LoadSpec` (what it is told). Neither
imports locust, gevent or grpc; `runner`, `clock`, `grpc` and `http` do, in the Locust process only.
"""

from harness.load.client import Generator
from harness.load.spec import LoadSpec, wire_of

__all__ = ["Generator", "LoadSpec", "wire_of"]
