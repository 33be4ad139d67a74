"""Pixel shuffle against transformers' InternVL, and its place in the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.models.internvl.modeling_internvl import InternVLModel, InternVLMultiModalProjector

from model.backbone import build
from model.projector import PixelShuffleProjector, pixel_shuffle
from model.spec import TINY, ModelSpec


def test_shuffles_as_internvl_does() -> None:
    patches = torch.randn(2, 36, 8)
    theirs = InternVLModel.pixel_shuffle(None, patches.view(2, 6, 6, 8), scale_factor=0.5)  # type: ignore[arg-type]
    assert torch.equal(pixel_shuffle(patches), theirs.reshape(2, 9, 32))


@pytest.mark.parametrize("number", [35, 25])
def test_refuses_what_is_no_even_square(number: int) -> None:
    with pytest.raises(ValueError, match="even side"):
        pixel_shuffle(torch.zeros(1, number, 4))


def test_projects_as_internvl_does() -> None:
    from transformers import InternVLConfig

    config = InternVLConfig(vision_config={"hidden_size": 8}, text_config={"model_type": "qwen2", "hidden_size": 24})
    theirs, ours = InternVLMultiModalProjector(config), PixelShuffleProjector(8, 24)
    ours.load_state_dict({name.replace("layer_norm", "norm"): value for name, value in theirs.state_dict().items()})
    patches = torch.randn(2, 16, 8)
    expected = theirs(InternVLModel.pixel_shuffle(None, patches.view(2, 4, 4, 8)).reshape(2, 4, 32))  # type: ignore[arg-type]
    assert float((ours(patches) - expected).abs().max()) < 1e-6


def test_a_model_with_it_gives_a_quarter_of_the_tokens() -> None:
    spec: ModelSpec = replace(TINY, projector="internvl")
    assert spec.tokens_per_tile == 4
    model = build(spec, 0)
    ids = torch.tensor([[1, *[spec.image_token_id] * 8, 20]])
    logits = model(input_ids=ids, pixel_values=torch.randn(2, 3, 32, 32)).logits
    assert logits.shape == (1, 10, spec.vocab_size) and bool(torch.isfinite(logits).all())
    with pytest.raises(ValueError, match="even"):
        replace(TINY, projector="internvl", image_size=40)


def test_clip_pixels_are_normalised_as_clip_does() -> None:
    from model.tiling import tile_image

    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tile = tile_image(image, image_size=32, max_tiles=1, normalisation="clip")[0]
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    expected = (image / 255.0 - np.array(OPENAI_CLIP_MEAN)) / np.array(OPENAI_CLIP_STD)
    assert np.abs(tile.permute(1, 2, 0).numpy() - expected).max() < 1e-5
