"""The first signal ends the run, whoever was interrupted; later ones change nothing."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from harness.run.signals import Interrupted, interruptible


def test_an_interrupt_that_somebody_swallowed_is_raised_again() -> None:
    with interruptible() as signals:
        signals.check()
        with suppress(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(2):
            with pytest.raises(Interrupted, match="interrupted by SIGTERM"):
                signals.check()


def test_a_second_signal_does_not_interrupt_putting_back() -> None:
    with interruptible() as signals:
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        signals.ignore()
