"""Desired versions on one Triton server: set, verified, and written to `config.pbtxt`.

Guarantee: a call that returns has seen exactly the wanted versions READY, each by its own readiness. A
call that raises says which versions serve now.
"""

from harness.triton.access import Access, access
from harness.triton.answer import Answer
from harness.triton.batching import Batching
from harness.triton.bytecode import will_reinitialise
from harness.triton.config_text import config_diff, edit_version_policy, persist_versions, read_config, write_config
from harness.triton.control import Control
from harness.triton.dependents import steps
from harness.triton.fleet import addresses, named, waves
from harness.triton.index import Index, VersionState
from harness.triton.model_text import changed_values, parse_config, rename_models
from harness.triton.probe_path import ProbePath, probe_path
from harness.triton.statistics import Counts
from harness.triton.transport import Refused
from harness.triton.versions import Change, check_on_disk, versions_on_disk

__all__ = [
    "Access",
    "Answer",
    "Batching",
    "Change",
    "Control",
    "Counts",
    "Index",
    "ProbePath",
    "Refused",
    "VersionState",
    "access",
    "addresses",
    "changed_values",
    "check_on_disk",
    "config_diff",
    "edit_version_policy",
    "named",
    "parse_config",
    "persist_versions",
    "probe_path",
    "read_config",
    "rename_models",
    "steps",
    "versions_on_disk",
    "waves",
    "will_reinitialise",
    "write_config",
]
