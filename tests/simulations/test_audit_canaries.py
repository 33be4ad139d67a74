"""Canaries speak ordinary tokens, wherever a vocabulary has its special ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.inputs import Encoded
from model.spec import MEDGPT_OSS_20B, TINY, ModelSpec
from privacy.entropy import Entropy
from privacy.manifest import SourceShare, StageSpec
from simulations.audit_canaries import make_canaries


def stage() -> StageSpec:
    return StageSpec(
        name="s", sources=(SourceShare("reports", 2),), groups=("attention",), schedule="both", learning_rate=0.1,
        momentum=0.0, local_steps=1, sampling_rate=0.5, noise_multiplier=1.0, max_rounds=1)  # fmt: skip


def drawn(spec: ModelSpec) -> list[int]:
    """The tokens of 40 canaries without their images."""
    samples: list[Encoded] = [
        sample for canary in make_canaries(40, stage(), spec, Entropy(bytes(32), simulated=True))
        for samples in canary.values() for sample in samples]  # fmt: skip
    ids = np.concatenate([sample.input_ids.numpy() for sample in samples])
    return [int(token) for token in ids if token != spec.image_token_id]


SMALL = replace(MEDGPT_OSS_20B, image_size=56, vocab_size=200_028)  # InternVL's lineage cuts the embeddings


@pytest.mark.parametrize(("spec", "low", "high"), [(TINY, 10, 1024), (SMALL, 0, 199_998)])
def test_tokens_are_ordinary_and_cover_the_vocabulary(spec: ModelSpec, low: int, high: int) -> None:
    ids = drawn(spec)
    assert len(ids) == 40 * 2 * 12
    assert low <= min(ids) and max(ids) < high
    assert len({(token - low) * 50 // (high - low) for token in ids}) == 50
