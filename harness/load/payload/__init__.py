"""What is asked: the inputs of each request and the bytes that carry them, prepared once before the clock runs.

    inputs = generation(spec, arm, number)               tensors: of a prompt, of given rows, or seeded noise
    template = encode(wire, arm, model, inputs)          the whole request, with holes for its id (template.py)

Building a request anew costs a Python client more than sending it. Only the holes are filled at send time.
"""

from harness.load.payload.encode import encode
from harness.load.payload.inputs import generation, scoring
from harness.load.payload.llm import can_compare, can_score
from harness.load.payload.openai import endpoint_of

__all__ = ["can_compare", "can_score", "encode", "endpoint_of", "generation", "scoring"]
