"""A micro model (tens of thousands of weights) and a handful of examples, shared by the model tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from model.backbone import BaseModel, build
from model.harmony_vocabulary import build_tokenizer, find_ranks, read_ranks
from model.inputs import Example
from model.spec import TINY, ModelSpec
from model.tokenizer import train_tokenizer

MICRO = replace(
    TINY, name="micro", vocab_size=420, hidden_size=32, expert_size=16, num_heads=2, num_kv_heads=1, num_experts=3,
    sliding_window=16, vision_hidden_size=16, vision_mlp_size=16, vision_layers=1, vision_heads=2, patch_size=16,
    initializer_range=0.2,
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
    return MICRO


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """Six questions: text and images, choices and free text, of different lengths."""
    rng = np.random.default_rng(0)
    patches = [rng.integers(0, 256, (32, width, 3), dtype=np.uint8) for width in (32, 32, 25, 32)]
    wide = rng.integers(0, 256, (32, 96, 3), dtype=np.uint8)
    return [
        Example("Findings: The lungs are clear. Is this study normal?", "normal", ("normal", "abnormal")),
        Example("Findings: Small effusion on the left. Is this study normal?", "abnormal", ("normal", "abnormal")),
        Example("Are the two patches alike?", "yes", ("yes", "no"), (patches[0], patches[1])),
        Example("Are the two patches alike?", "no", ("yes", "no"), (patches[2], patches[3])),
        Example("Findings: The heart is large. Write the impression.", "Cardiomegaly without effusion."),
        Example("What is in <image> here?", "a wide patch", ("a wide patch", "nothing"), (wide,)),
    ]


@pytest.fixture
def base(spec: ModelSpec, examples: list[Example]) -> BaseModel:
    """A fresh micro model with its tokenizer."""
    tokenizer = train_tokenizer([e.question + " " + e.answer for e in examples], spec.vocab_size)
    return BaseModel(build(spec, seed=3), tokenizer, spec, bytes(32))


@pytest.fixture(scope="session")
def harmony_tokenizer() -> Tokenizer:
    """o200k_harmony; takes some ten seconds to make."""
    return build_tokenizer(read_ranks(find_ranks()))
