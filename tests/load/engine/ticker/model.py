"""`ticker`: a decoupled model that sends COUNT chunks, one every PERIOD_US, each with its own clock. Inside Triton.

One thread paces all streams, so that hundreds of them are open at once; PERIOD_US 0 sends as fast as it goes.
"""

from __future__ import annotations

import heapq
import threading
import time
from itertools import count
from typing import Any

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._new: list[tuple[int, int, int, int, Any]] = []
        self._order = count()
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def execute(self, requests: list[Any]) -> None:
        now = time.monotonic_ns()
        for request in requests:
            chunks, period_us = (
                int(pb.get_input_tensor_by_name(request, name).as_numpy()[0]) for name in ("COUNT", "PERIOD_US")
            )
            sender = request.get_response_sender()
            if chunks < 0:
                sender.send(pb.InferenceResponse(error=pb.TritonError("ticker was told to fail")))
                chunks = 0
            self._new.append((now, next(self._order), chunks, period_us * 1000, sender))
        self._wake.set()

    def finalize(self) -> None:
        self._over = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        due: list[tuple[int, int, int, int, Any]] = []
        while not self._over:
            while self._new:
                heapq.heappush(due, self._new.pop())
            if not due:
                self._wake.wait()
                self._wake.clear()
                continue
            if (pause := due[0][0] - time.monotonic_ns()) > 0:
                self._wake.wait(pause / 1e9)
                self._wake.clear()
                continue
            at, order, left, period, sender = heapq.heappop(due)
            if left == 0 or sender.is_cancelled():
                sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            clock = pb.Tensor("CLOCK", np.array([time.monotonic_ns()], np.int64))
            sender.send(pb.InferenceResponse(output_tensors=[clock]))
            heapq.heappush(due, (at + period, order, left - 1, period, sender))
