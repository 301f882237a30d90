"""Walks the plan: the composition root, the journal, and putting things back."""

from harness.run.conclude import write_verdict
from harness.run.execute import Result, execute
from harness.run.operations.conclude import judge_again
from harness.run.operations.operate import operate
from harness.run.recover import recover
from harness.run.signals import Interrupted, interruptible

__all__ = ["Interrupted", "Result", "execute", "interruptible", "judge_again", "operate", "recover", "write_verdict"]
