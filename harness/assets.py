"""Where the files are that ship with the package: at the top level of a checkout, in `assets/` of a wheel.

`assets/` has no `__init__.py`, so this module and that folder do not get into each other's way.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def scenarios_dir() -> Path:
    """The folder of the built-in scenarios and their payloads."""
    return _find("scenarios")


def locustfiles_dir() -> Path:
    """The folder of the Locust users that carry out a plan."""
    return _find("locustfiles")


def _find(name: str) -> Path:
    installed = _PACKAGE / "assets" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
