"""A model of llama architecture in PyTorch: FP16 or real FP8, on a GPU; on a CPU for its tests.

shapes, settings   what a version is: pure words          (standard library only)
weights            SmolLM2's own, or seeded random ones   ─► linear: FP16, or e4m3 with `torch._scaled_mm`
plain, kernels     the arithmetic around the matrices: in PyTorch, and the same fused for a GPU
cache              keys and values, in FP32, FP16 or e4m3
transformer        prefill of one sequence, one step of many; `graphs` replays that step
engine             requests that join and leave the batch between two steps
answers            whole answers of a batch
model, batched     what Triton runs: the engine, streamed; and answers
"""
