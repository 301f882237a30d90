"""Moving traffic back by hand must not wait for what judges recordings: none of it is imported."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numpy", "scipy", "pyarrow", "pandas", "matplotlib", "pydantic", "grpc", "tritonclient", "locust")


def test_route_imports_nothing_heavy() -> None:
    code = (
        "import sys; from harness.cli import main; "
        "print(main(['route', 'rollback', 'haproxy+tcp://127.0.0.1:1']), *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, *modules = done.stdout.split()
    assert exit_code == "4", done.stderr
    assert "harness.ingress.haproxy" in modules
    assert not set(HEAVY) & set(modules)
