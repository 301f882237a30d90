"""What decides which version a request goes to: one small interface for every router.

Behind it the harness's own split, which the load generator obeys; HAProxy's runtime API; Envoy's runtime keys; and a
webhook for anything else. A router is found again by its address alone.
"""

from harness.ingress.open import open_ingress
from harness.ingress.own import OwnSplit
from harness.ingress.port import Drained, Ingress, Pattern, Split

__all__ = ["Drained", "Ingress", "OwnSplit", "Pattern", "Split", "open_ingress"]
