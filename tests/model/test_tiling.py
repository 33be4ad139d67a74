"""Dynamic tiling: how many tiles, which pixels, and what is no image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.spec import MEDGPT_OSS_20B
from model.tiling import IMAGENET_MEAN, IMAGENET_STD, tile_grid, tile_image

FULL = {"image_size": MEDGPT_OSS_20B.image_size, "max_tiles": MEDGPT_OSS_20B.max_tiles}


def test_a_full_size_radiograph_becomes_twelve_tiles_and_a_thumbnail() -> None:
    image = np.zeros((2500, 2048, 3), dtype=np.uint8)
    assert tile_grid(2048, 2500, **FULL) == (3, 4)
    assert tile_image(image, **FULL).shape == (13, 3, 336, 336)


def test_one_tile_has_no_thumbnail_and_keeps_its_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tiles = tile_image(image, image_size=32, max_tiles=4)
    assert tiles.shape == (1, 3, 32, 32)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    back = (tiles[0].permute(1, 2, 0) * std + mean) * 255
    assert torch.allclose(back, torch.from_numpy(image).float(), atol=1e-3)


def test_tiles_are_in_reading_order() -> None:
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[:32, 32:], image[32:, :32] = 100, 200  # top right, bottom left
    tiles = tile_image(image, image_size=32, max_tiles=4)
    assert tiles.shape[0] == 5
    means = (tiles[:4].mean(dim=(2, 3)) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)).mean(1) * 255
    assert means.round().tolist() == [0, 100, 200, 0]


def test_ties_go_to_the_larger_grid_only_when_the_image_fills_it() -> None:
    assert tile_grid(64, 64, image_size=32, max_tiles=4) == (2, 2)
    assert tile_grid(40, 40, image_size=32, max_tiles=4) == (1, 1)


def test_a_narrow_patch_is_resized() -> None:
    assert tile_image(np.full((32, 25, 3), 7, dtype=np.uint8), image_size=32, max_tiles=4).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8),
     np.zeros((0, 4, 3), np.uint8), [[1]]],
)  # fmt: skip
def test_what_is_no_image_is_refused(image: object) -> None:
    with pytest.raises(ValueError, match="tile_image"):
        tile_image(image, image_size=32, max_tiles=4)  # type: ignore[arg-type]
