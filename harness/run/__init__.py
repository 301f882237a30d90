"""Walks the plan: the composition root, the journal, and putting things back."""

from harness.run.conclude import write_verdict
from harness.run.execute import Result, execute
from harness.run.recover import recover
from harness.run.signals import Interrupted, interruptible

__all__ = ["Interrupted", "Result", "execute", "interruptible", "recover", "write_verdict"]
