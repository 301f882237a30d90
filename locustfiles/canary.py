"""A Locust user that carries out a plan.

Started by `harness.load.Generator`, which speaks JSON lines with it over stdin and stdout. The plan says
which request leaves when and to which arm; Locust carries it: process, users, statistics.
"""

from locust import User, task  # first: it patches the standard library for gevent

from harness.load.process.runner import Runner
from harness.scenario.plan import requests


class Canary(User):
    @task
    def carry_out(self) -> None:
        Runner(self.environment, requests).run()
