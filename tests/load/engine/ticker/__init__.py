"""A decoupled model whose chunks carry the sender's clock, and its repository."""

from __future__ import annotations

from pathlib import Path

from harness.types import ModelInfo, TensorSpec

TICKER = ModelInfo(
    name="ticker",
    platform="python",
    versions=(1,),
    inputs=(TensorSpec("COUNT", "INT32", (1,)), TensorSpec("PERIOD_US", "INT32", (1,))),
    outputs=(TensorSpec("CLOCK", "INT64", (1,)),),
    max_batch_size=0,
    decoupled=True,
)
_CONFIG = """name: "ticker"
backend: "python"
max_batch_size: 0
model_transaction_policy { decoupled: true }
input [
  { name: "COUNT" data_type: TYPE_INT32 dims: [ 1 ] },
  { name: "PERIOD_US" data_type: TYPE_INT32 dims: [ 1 ] }
]
output [ { name: "CLOCK" data_type: TYPE_INT64 dims: [ 1 ] } ]
instance_group [ { count: @COUNT@ kind: KIND_CPU } ]
"""


def write_ticker(repository: Path, instances: int = 1) -> None:
    """Adds the model `ticker`, version 1, to a model repository."""
    (repository / "ticker" / "1").mkdir(parents=True)
    (repository / "ticker" / "config.pbtxt").write_text(_CONFIG.replace("@COUNT@", str(instances)))
    (repository / "ticker" / "1" / "model.py").write_text((Path(__file__).parent / "model.py").read_text())
