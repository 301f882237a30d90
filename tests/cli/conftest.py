"""The command in this process: the second that a new one takes to start is not what these tests are about."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.cli import main
from tests.run.conftest import Done

Call = Callable[..., Done]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """call("models", "status", ...): exit code, stdout and stderr, as the command's own process would give them."""

    def run(*args: object) -> Done:
        capsys.readouterr()
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run
