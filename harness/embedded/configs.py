"""config.pbtxt of the demonstration models that stand alone; those of an ensemble's steps are in rag/ensemble.py."""

from __future__ import annotations

from collections.abc import Sequence

from harness.embedded.rag import ensemble
from harness.embedded.smollm2.signature import SIGNATURE

# Each instance is a process. Four let a closed loop of four requests sleep side by side.
TINY_INSTANCES = 4


def config_text(model: str, versions: Sequence[int], on_gpu: bool = False) -> str:
    """`on_gpu`: its instance is placed on the first GPU: without a number Triton would start one on each."""
    policy = f"version_policy: {{ specific: {{ versions: [{', '.join(map(str, versions))}] }} }}\n"
    text = _CONFIGS[model].replace("@POLICY@\n", policy)
    return text.replace("kind: KIND_CPU", "kind: KIND_GPU gpus: [ 0 ]") if on_gpu else text


_TOKENS = """name: "{name}"
backend: "python"
max_batch_size: 0
@POLICY@
model_transaction_policy {{ decoupled: true }}
{signature}instance_group [ {{ count: 1 kind: KIND_CPU }} ]
"""

_WHOLE_ANSWERS = """name: "{name}"
backend: "python"
max_batch_size: {batch}
@POLICY@
input [
  {{ name: "text_input" data_type: TYPE_STRING dims: [ 1 ] }},
  {{ name: "max_tokens" data_type: TYPE_INT32 dims: [ 1 ] optional: true }}
]
output [
  {{ name: "text_output" data_type: TYPE_STRING dims: [ 1 ] }},
  {{ name: "input_tokens" data_type: TYPE_INT32 dims: [ 1 ] }},
  {{ name: "output_tokens" data_type: TYPE_INT32 dims: [ 1 ] }}
]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
dynamic_batching {{ max_queue_delay_microseconds: 20000 }}
"""

_BATCHING = """name: "{name}"
backend: "python"
max_batch_size: 16
@POLICY@
input [ {{ name: "INPUT" data_type: TYPE_FP32 dims: [ 64 ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [ 8 ] }} ]
instance_group [ {{ count: 2 kind: KIND_CPU }} ]
dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}
"""

_CONFIGS = {
    "smollm2": _TOKENS.format(name="smollm2", signature=SIGNATURE),
    "smollm2_batched": _WHOLE_ANSWERS.format(name="smollm2_batched", batch=4),
    "llama": _TOKENS.format(name="llama", signature=SIGNATURE),
    "llama_batched": _WHOLE_ANSWERS.format(name="llama_batched", batch=64),
    "tiny": f"""name: "tiny"
backend: "python"
max_batch_size: 0
@POLICY@
input [ {{ name: "INPUT" data_type: TYPE_FP32 dims: [ 16 ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [ 16 ] }} ]
instance_group [ {{ count: {TINY_INSTANCES} kind: KIND_CPU }} ]
""",
    "batching": _BATCHING.format(name="batching", delay_us=0),
    "batching_night": _BATCHING.format(name="batching_night", delay_us=20_000),
    **ensemble.CONFIGS,
}
