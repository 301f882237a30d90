"""A closed loop with tritonclient, as its examples write one: threads over gRPC, its gevent pool over HTTP."""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np


def main() -> None:
    url, wire, in_flight, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    if wire == "http":
        import gevent.monkey

        gevent.monkey.patch_all()
        import tritonclient.http as client
    else:
        import tritonclient.grpc as client  # type: ignore[no-redef]

    values = np.arange(16, dtype=np.float32)
    connection = client.InferenceServerClient(url, **({"concurrency": in_flight} if wire == "http" else {}))
    end = time.monotonic() + seconds
    took: list[float] = []

    def slot() -> None:
        while (begin := time.monotonic()) < end:
            tensor = client.InferInput("INPUT", [16], "FP32")
            tensor.set_data_from_numpy(values)
            connection.infer("identity", [tensor], model_version="1")
            took.append(time.monotonic() - begin)

    slots = [threading.Thread(target=slot) for _ in range(in_flight)]
    for one in slots:
        one.start()
    for one in slots:
        one.join()
    print(json.dumps({"rps": len(took) / seconds, "p50_us": float(np.median(took)) * 1e6}))


main()
