"""A whole Python to bring along: for a machine whose Python has no shared library, which Triton's stub links to.

The library alone is not enough: which modules are in it, and which lie beside it, each distribution chooses anew.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

_NOT = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages", "__pycache__", "config-*")
_ASK = """
import json, sys, sysconfig
get = sysconfig.get_config_var
print(json.dumps([sys.base_prefix, "%d.%d" % sys.version_info[:2], get("LIBDIR"), get("INSTSONAME")]))
"""


def copy_python(command: str, version: str, target: Path) -> str | None:
    """Copies that Python's program, library, modules and headers to `target`, where it finds them wherever that lies.

    None, or in one line why there is nothing to copy.
    """
    try:
        done = subprocess.run([command, "-I", "-c", _ASK], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return f"{command} is no Python that runs"
    prefix, found, libdir, library = json.loads(done.stdout)
    if found != version:
        return f"{command} is Python {found}, not {version}"
    shared = Path(libdir or "") / (library or "")
    if ".so" not in shared.name or not shared.is_file():
        return f"{command} has no shared library"
    program = Path(prefix) / "bin" / f"python{version}"
    modules = Path(prefix) / "lib" / f"python{version}"
    headers = Path(prefix) / "include" / f"python{version}"
    for folder in ("bin", "lib", "include"):
        (target / folder).mkdir(parents=True)
    shutil.copytree(modules, target / "lib" / modules.name, ignore=shutil.ignore_patterns(*_NOT))
    if headers.is_dir():
        shutil.copytree(headers, target / "include" / headers.name)
    shutil.copyfile(shared, target / "lib" / shared.name)
    copied = target / "bin" / program.name
    copied.write_bytes(_found_beside(program.read_bytes(), libdir))
    copied.chmod(0o755)
    (target / "bin" / "python3").symlink_to(program.name)
    if strip := shutil.which("strip"):
        for file in (target / "lib").rglob("*.so*"):
            file.chmod(0o755)
            subprocess.run([strip, "--strip-unneeded", file], check=True)
    return None


def _found_beside(program: bytes, libdir: str) -> bytes:
    """Where the loader looks for the library, written over in place: shorter or as long, the rest zeros."""
    old, new = libdir.encode() + b"\0", b"$ORIGIN/../lib\0"
    return program.replace(old, new.ljust(len(old), b"\0")) if len(new) <= len(old) else program
