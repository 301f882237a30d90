"""What a streamed language model takes and gives, as its config.pbtxt says: `smollm2`, `llama`, an ensemble of one.

The tensors themselves are wire.py's.
"""

SIGNATURE = """\
input [
  { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "max_tokens" data_type: TYPE_INT32 dims: [ 1 ] optional: true },
  { name: "stream" data_type: TYPE_BOOL dims: [ 1 ] optional: true },
  { name: "forced_ids" data_type: TYPE_INT32 dims: [ -1 ] optional: true },
  { name: "logprobs" data_type: TYPE_INT32 dims: [ 1 ] optional: true }
]
output [
  { name: "text_output" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "token_ids" data_type: TYPE_INT32 dims: [ -1 ] },
  { name: "topk_ids" data_type: TYPE_INT32 dims: [ -1, -1 ] },
  { name: "topk_logprobs" data_type: TYPE_FP32 dims: [ -1, -1 ] },
  { name: "finish_reason" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "input_tokens" data_type: TYPE_INT32 dims: [ 1 ] }
]
"""
