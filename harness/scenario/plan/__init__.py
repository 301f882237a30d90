"""From a scenario to every request it will send: due time, arms and prompt, all fixed by the seed.

stages       a scenario's stages as they are carried out, ramps, steps and sweeps included
arrivals     when requests are due
assignment   who gets them
planned      the requests of a stage, or one worker's share of them
"""

from harness.scenario.plan.arrivals import expected
from harness.scenario.plan.planned import PAYLOADS, requests
from harness.scenario.plan.stages import Plan, plan

__all__ = ["PAYLOADS", "Plan", "expected", "plan", "requests"]
