"""The inputs of one request, whatever the model: a prompt's, a given row's, or seeded noise."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import UsageError
from harness.load.payload import llm, openai, rows
from harness.load.spec import LoadSpec
from harness.load.template import UNIQUE
from harness.tensors import Tensor
from harness.types import ArmName


def generation(spec: LoadSpec, arm: ArmName, number: int) -> list[Tensor]:
    """The inputs of payload `number`, the same for both arms but for what an arm's parameters say.

    A token model reads prompt `number`, and so does any other of one text input; else row `number` of `spec.inputs`
    (which is unique where UNIQUE stands in it), or noise of the run's seed.
    Raises UsageError where a required input is unknown, or given values do not fit it.
    """
    model, of = spec.models[arm], spec.arms[arm]
    if of.api == "openai":
        return openai.inputs(spec, of, spec.prompts[number])
    if model.is_token_model:
        return llm.inputs(spec, of, model, spec.prompts[number])
    made = rows.inputs(spec, of, model, number)
    if spec.cache == "unique" and not any(UNIQUE.encode() in t.raw for t in made):
        raise UsageError(f"load.cache: unique is for models that read prompts, and {model.name} reads none")
    return made


def scoring(spec: LoadSpec, arm: ArmName, number: int, forced_ids: Sequence[int]) -> list[Tensor]:
    """The inputs of a request that scores the tokens `forced_ids` after prompt `number` instead of generating."""
    return llm.scoring(spec, spec.arms[arm], spec.models[arm], spec.prompts[number], forced_ids)
