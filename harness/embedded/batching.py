"""`batching`: a model whose batches cost the same however many requests are in them. Runs inside Triton.

As in an engine that is built for one batch size, every batch is padded to it: two layers of a network, really computed,
on one thread (the server's environment pins it). Sixteen requests together cost as much as one alone, so it gains from
waiting for others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.embedded.guard import end_with_parent

BATCH = 16
INPUTS, HIDDEN, OUTPUTS = 64, 4096, 8


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        end_with_parent()
        rng = np.random.default_rng(int(args["model_version"]))
        self._first = rng.standard_normal((INPUTS, HIDDEN), np.float32) / np.float32(INPUTS**0.5)
        self._second = rng.standard_normal((HIDDEN, HIDDEN // 2), np.float32) / np.float32(HIDDEN**0.5)
        self._last = rng.standard_normal((HIDDEN // 2, OUTPUTS), np.float32)

    def execute(self, requests: list[Any]) -> list[Any]:
        import triton_python_backend_utils as pb

        rows = [pb.get_input_tensor_by_name(request, "INPUT").as_numpy() for request in requests]
        together = np.concatenate(rows)
        padded = np.zeros((-(-len(together) // BATCH) * BATCH, INPUTS), np.float32)
        padded[: len(together)] = together
        hidden = np.maximum(padded @ self._first, 0)
        answers = np.maximum(hidden @ self._second, 0) @ self._last
        ends = np.cumsum([len(row) for row in rows])
        parts = np.split(answers[: len(together)], ends[:-1])
        return [pb.InferenceResponse(output_tensors=[pb.Tensor("OUTPUT", part)]) for part in parts]
