"""A closed loop of Locust users that call tritonclient and fire Locust's request event, as tutorials write it."""

from __future__ import annotations

import json
import os
import sys
import time

import gevent
from locust import User, constant, task
from locust.env import Environment

URL, WIRE, IN_FLIGHT, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])

if WIRE == "grpc":
    import grpc.experimental.gevent

    grpc.experimental.gevent.init_gevent()
    import tritonclient.grpc as client
else:
    import tritonclient.http as client  # type: ignore[no-redef]

import numpy as np  # noqa: E402  after gevent's patches

VALUES = np.arange(16, dtype=np.float32)


class Canary(User):
    wait_time = constant(0)

    def on_start(self) -> None:
        self.client = client.InferenceServerClient(URL)

    @task
    def infer(self) -> None:
        begin = time.perf_counter()
        tensor = client.InferInput("INPUT", [16], "FP32")
        tensor.set_data_from_numpy(VALUES)
        self.client.infer("identity", [tensor], model_version="1")
        self.environment.events.request.fire(
            request_type=WIRE, name="infer", response_time=(time.perf_counter() - begin) * 1000, response_length=0,
            exception=None, context={},
        )  # fmt: skip


def main() -> None:
    environment = Environment(user_classes=[Canary])
    runner = environment.create_local_runner()
    runner.start(IN_FLIGHT, spawn_rate=1000)
    gevent.sleep(SECONDS)
    total = environment.stats.total
    print(json.dumps({"rps": total.num_requests / SECONDS, "p50_us": total.get_response_time_percentile(0.5) * 1000}))
    sys.stdout.flush()
    os._exit(0)  # with gRPC under gevent Locust does not come to its own end


main()
