"""InternVL's dynamic tiling in torch: an image becomes 1..max_tiles square tiles, plus a thumbnail when more than one.

Source: OpenGVLab/InternVL, `dynamic_preprocess` (arXiv 2404.16821, section 3.1: dynamic high resolution). MedGPT-oss
uses tile 336, at most 12 tiles, bicubic resizing and ImageNet mean and deviation (not CLIP's).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

__all__ = [
    "IMAGENET_MEAN", "IMAGENET_STD", "NORMALISATIONS", "cut_tiles", "normalised", "tile_count", "tile_grid",
    "tile_image",
]  # fmt: skip

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

NORMALISATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Name -> mean and standard deviation of the pixels, RGB in 0..1: InternVL's, and OpenAI CLIP's for a tower as it left
OpenAI (Radford et al., arXiv 2103.00020; the values are those of its preprocessor)."""


def tile_grid(width: int, height: int, *, image_size: int, max_tiles: int) -> tuple[int, int]:
    """(columns, rows) of the grid whose aspect ratio is nearest; ties go to the larger grid if the image fills it."""
    aspect = width / height
    grids = {(c, r) for c in range(1, max_tiles + 1) for r in range(1, max_tiles + 1) if c * r <= max_tiles}
    best, best_difference = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: (grid[0] * grid[1], grid)):
        difference = abs(aspect - columns / rows)
        fills = width * height > 0.5 * image_size * image_size * columns * rows
        if difference < best_difference or (difference == best_difference and fills):
            best, best_difference = (columns, rows), difference
    return best


def tile_count(width: int, height: int, *, image_size: int, max_tiles: int) -> int:
    """How many tiles `cut_tiles` makes of an image, the thumbnail among them."""
    columns, rows = tile_grid(width, height, image_size=image_size, max_tiles=max_tiles)
    return columns * rows + (columns * rows > 1)


def tile_image(
    image: NDArray[np.uint8], *, image_size: int, max_tiles: int, normalisation: str = "imagenet"
) -> torch.Tensor:
    """Normalised tiles, float32 (n, 3, image_size, image_size): `normalised` of `cut_tiles`."""
    return normalised(cut_tiles(image, image_size=image_size, max_tiles=max_tiles), normalisation)


def normalised(tiles: torch.Tensor, normalisation: str = "imagenet") -> torch.Tensor:
    """uint8 (n, 3, S, S) as the vision tower takes it, float32; normalisation: a name in NORMALISATIONS."""
    mean, deviation = (torch.tensor(part).view(3, 1, 1) for part in NORMALISATIONS[normalisation])
    return (tiles.float() / 255.0 - mean) / deviation


def cut_tiles(image: NDArray[np.uint8], *, image_size: int, max_tiles: int) -> torch.Tensor:
    """Tiles, uint8 (n, 3, image_size, image_size), row by row, the thumbnail last when n > 1.

    image: uint8 (H, W, 3), RGB. Raises ValueError for any other kind of array, or an empty one.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError("tile_image: an image must be a uint8 array of shape (H, W, 3), RGB.")
    height, width = image.shape[:2]
    if not height or not width:
        raise ValueError("tile_image: the image is empty.")
    pixels = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)[None].float()
    columns, rows = tile_grid(width, height, image_size=image_size, max_tiles=max_tiles)
    full = _resize(pixels, rows * image_size, columns * image_size)
    tiles = full.reshape(3, rows, image_size, columns, image_size).permute(1, 3, 0, 2, 4)
    tiles = tiles.reshape(rows * columns, 3, image_size, image_size)
    if rows * columns > 1:
        tiles = torch.cat([tiles, _resize(pixels, image_size, image_size)])
    return tiles.to(torch.uint8)  # every value is a whole number in 0..255 already


def _resize(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bicubic, antialiased (as Pillow's BICUBIC), rounded back to 0..255 as an 8-bit image would be."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    resized = F.interpolate(pixels, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 255).round()
