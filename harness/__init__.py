"""triton-canary: benchmark and canary analysis for NVIDIA Triton Inference Server."""

__version__ = "0.1.0"
