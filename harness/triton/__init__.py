"""Desired versions on one Triton server: set, verified, and written to `config.pbtxt`.

Guarantee: a call that returns has seen exactly the wanted versions READY, each by its own readiness. A
call that raises says which versions serve now.
"""

from harness.triton.access import Access
from harness.triton.config_text import edit_version_policy, persist_versions, read_config, write_config
from harness.triton.control import Control
from harness.triton.index import Index, VersionState
from harness.triton.transport import Refused
from harness.triton.versions import Change, check_on_disk

__all__ = [
    "Access",
    "Change",
    "Control",
    "Index",
    "Refused",
    "VersionState",
    "check_on_disk",
    "edit_version_policy",
    "persist_versions",
    "read_config",
    "write_config",
]
