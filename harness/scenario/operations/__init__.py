"""What is done to models beside a canary, as data: the kinds of scenario that a `kind:` key names.

The same rules as in `model`: frozen, strict, the field descriptions are the reference of the format.
"""

from harness.scenario.operations.ab import AbTest
from harness.scenario.operations.ab_sections import AbArm, AbIngress
from harness.scenario.operations.base import Operation
from harness.scenario.operations.find import FindMaxLoad
from harness.scenario.operations.load import SentLoad
from harness.scenario.operations.long_context import LongArm, LongContext
from harness.scenario.operations.metered import Metered
from harness.scenario.operations.night import MOST_DELAY_S, BatchSetting, NightBatch, Separate, Times, next_time
from harness.scenario.operations.regions import MultiRegion
from harness.scenario.operations.retire import RetireModel
from harness.scenario.operations.server import MultiModelServer, SharedModel
from harness.scenario.operations.sync import RepoSync

KINDS: dict[str, type[Operation]] = {
    "repo-sync": RepoSync,
    "multi-region": MultiRegion,
    "retire-model": RetireModel,
    "multi-model-server": MultiModelServer,
    "night-batch": NightBatch,
    "find-max-load": FindMaxLoad,
    "ab-test": AbTest,
    "long-context": LongContext,
}
"""By the word that the file's `kind:` key takes; without that key a file is a canary."""

__all__ = [
    "KINDS",
    "MOST_DELAY_S",
    "AbArm",
    "AbIngress",
    "AbTest",
    "BatchSetting",
    "FindMaxLoad",
    "LongArm",
    "LongContext",
    "Metered",
    "MultiModelServer",
    "MultiRegion",
    "NightBatch",
    "Operation",
    "RepoSync",
    "RetireModel",
    "SentLoad",
    "Separate",
    "SharedModel",
    "Times",
    "next_time",
]
