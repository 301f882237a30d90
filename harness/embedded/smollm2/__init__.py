"""SmolLM2-135M-Instruct in NumPy: weights from a GGUF, fp32 arithmetic, one BLAS thread.

The reference is the dequantised GGUF (Q4_1, embedding Q8_0) rounded to FP16, not the original checkpoint.
"""
