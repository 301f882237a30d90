"""Where what is kept between runs lies: journals of servers and routers, leases, calibrations."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path


def state_folder(urls: Sequence[str]) -> Path:
    """Where the journal of these servers lies; the same for the same URLs in any order."""
    name = "+".join(sorted({re.sub(r"[^A-Za-z0-9._-]+", "-", url).strip("-.") for url in urls}))
    if len(name) > 120:
        name = f"{name[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return state_home() / name


def state_home() -> Path:
    """What is kept between runs lies here."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "triton-canary"
