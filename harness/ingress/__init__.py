"""What decides which version a request goes to.

One small interface for every router: `read` the candidate's share, `set` it. The only one so far is the
harness's own split, which the load generator obeys; real ingresses come behind the same interface.
"""

from harness.ingress.own import OwnSplit
from harness.ingress.port import Ingress

__all__ = ["Ingress", "OwnSplit"]
