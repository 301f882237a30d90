"""One GPU, as the models want it."""

from __future__ import annotations

import torch


def prepare(device: str) -> None:
    """For the calling thread: `device` is its own, and arithmetic is what it says. Before anything else is computed."""
    # cuDNN's attention makes a plan for each new length of a prompt, which takes longer than the prompt
    torch.backends.cuda.enable_cudnn_sdp(False)
    # sums in float32, also where a long one is split
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    if device != "cpu":
        torch.cuda.set_device(device)


def give_back(device: str) -> None:
    """What is free goes back to the GPU: others may need it, and what is read of it is what is held."""
    if device != "cpu":
        torch.cuda.empty_cache()
