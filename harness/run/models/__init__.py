"""Which versions of a model serve, on one server or a fleet: changed, verified, journaled, brought back.

Guarantee: a change either ends with every server serving the wanted versions (by the repository index, by each
version's own readiness and by an answer to a probe), or every server is put back to what it had, and those that could
not be are named. Whatever dies in between, the journal knows what there was before: `restore` goes back to it.
"""

from harness.run.models.deploy import Deployed, publish, sync_and_load
from harness.run.models.fit import Fit, fits
from harness.run.models.hold import Hold, held, lent_versions
from harness.run.models.leak import Cycle, Trend
from harness.run.models.loading import load, unload
from harness.run.models.max_batch import max_batch, set_max_batch
from harness.run.models.memory import Cycles, Memory, cycles
from harness.run.models.overview import ModelStatus, ServerStatus, Status, status
from harness.run.models.restoring import restore
from harness.run.models.retiring import Retired, Then, retire
from harness.run.models.rules import Changed, Rules
from harness.run.models.site import Site, open_site
from harness.run.models.traffic import Strays, unversioned
from harness.run.models.tune import Tuned, settings, tune

__all__ = [
    "Changed",
    "Cycle",
    "Cycles",
    "Deployed",
    "Fit",
    "Hold",
    "Memory",
    "ModelStatus",
    "Retired",
    "Rules",
    "ServerStatus",
    "Site",
    "Status",
    "Strays",
    "Then",
    "Trend",
    "Tuned",
    "cycles",
    "fits",
    "held",
    "lent_versions",
    "load",
    "max_batch",
    "open_site",
    "publish",
    "restore",
    "retire",
    "set_max_batch",
    "settings",
    "status",
    "sync_and_load",
    "tune",
    "unload",
    "unversioned",
]
