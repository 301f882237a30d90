"""From the settings of a version to its weights on a device, and its tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.embedded.llama.device import give_back, prepare
from harness.embedded.llama.settings import SMOLLM2, LlamaSettings
from harness.embedded.llama.shapes import SHAPES
from harness.embedded.llama.tokens import WordTokenizer
from harness.embedded.llama.transformer import Transformer
from harness.embedded.llama.weights import GgufSource, RandomSource, Source, Widened
from harness.embedded.runtime import WEIGHTS_INSTALL, weights_file
from harness.embedded.smollm2.gguf_file import GgufFile
from harness.embedded.smollm2.tokenizer import SmolTokenizer

MOST_CONTEXT = 8192
"""Tokens a sequence may have unless the settings say otherwise: all of it is allocated for each slot."""

Tokenizer = SmolTokenizer | WordTokenizer


def device() -> str:
    """The first GPU where PyTorch sees one."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


@torch.inference_mode()
def load(settings: LlamaSettings, device: str) -> Transformer:
    """RuntimeError: SmolLM2's weights are wanted and not installed. torch.OutOfMemoryError."""
    prepare(device)
    source: Source
    if settings.shape == SMOLLM2:
        source = GgufSource(_weights(), device)
    else:
        source = RandomSource(SHAPES[settings.shape], settings.seed, device)
    if settings.widened > 1:
        source = Widened(source, settings.widened)
    transformer = Transformer(source, settings.weights, device)
    give_back(device)  # what quantising needed for a moment
    return transformer


def tokenizer(settings: LlamaSettings) -> Tokenizer:
    """That of the model's weights."""
    if settings.shape == SMOLLM2:
        return SmolTokenizer(GgufFile(_weights()).metadata)
    return WordTokenizer(SHAPES[settings.shape].vocabulary)


def context(settings: LlamaSettings, transformer: Transformer) -> int:
    """Tokens of a sequence, prompt and answer together."""
    return min(settings.context or MOST_CONTEXT, transformer.shape.context)


def _weights() -> Path:
    found = weights_file()
    if found is None:
        raise RuntimeError(f"the weights of SmolLM2-135M-Instruct are not installed: {WEIGHTS_INSTALL}")
    return found
