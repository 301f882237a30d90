"""Where a locustfile hands over: what this process is there for follows from how Locust was started."""

from __future__ import annotations

from typing import Any

import gevent
from locust.runners import MasterRunner, WorkerRunner

from harness.load.engine.engine import Requests
from harness.load.process.crew import AtMaster, AtWorker
from harness.load.process.runner import Alone, Role


def attend(environment: Any, requests: Requests) -> gevent.Greenlet:
    """Does what this Locust process is there for, until the process ends. `requests`: the plan."""
    role: Role
    if isinstance(environment.runner, MasterRunner):
        role = AtMaster(environment)
    elif isinstance(environment.runner, WorkerRunner):
        role = AtWorker(environment, requests)
    else:
        role = Alone(environment, requests)
    return gevent.spawn(role.run)
