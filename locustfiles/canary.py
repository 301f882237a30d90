"""A Locust user that carries out a plan.

Started by `harness.load.Generator`, which speaks JSON lines with it over stdin and stdout. The plan says which request
leaves when and to which arm; Locust carries it: processes, master and workers, statistics.
"""

from locust import User, events, task  # first: it patches the standard library for gevent

from harness.load.process.attend import attend
from harness.scenario.plan import requests


@events.init.add_listener
def begin(environment, **_) -> None:
    environment.load = attend(environment, requests)


class Canary(User):
    """There is one in each process that sends load. The plan is carried out once, however often Locust starts it."""

    @task
    def carry_out(self) -> None:
        self.environment.load.join()
