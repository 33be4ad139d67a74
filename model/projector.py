"""The projector of the InternVL lineage: pixel shuffle by 2, layer norm, two layers.

Source: OpenGVLab/InternVL, `InternVLChatModel.pixel_shuffle` (ps_version v2) and `mlp1`; arXiv 2404.16821, section 3.1:
a tile's patches become a quarter of the tokens with four times the channels. It stands in the place of Llava's
projector and names its layers as that does, so that adapters and gradients treat both alike.
"""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["PixelShuffleProjector", "pixel_shuffle"]


def pixel_shuffle(patches: torch.Tensor) -> torch.Tensor:
    """(n, S^2, c) to (n, S^2/4, 4 c): each square of 2 x 2 patches side by side, rows before columns.

    Raises ValueError when the patches form no square with an even side.
    """
    count, number, width = patches.shape
    side = math.isqrt(number)
    if side * side != number or side % 2:
        raise ValueError("pixel_shuffle: the patches of a tile must form a square with an even side.")
    half = side // 2
    squares = patches.view(count, half, 2, half, 2, width).permute(0, 1, 3, 2, 4, 5)
    return squares.reshape(count, half * half, 4 * width)


class PixelShuffleProjector(nn.Module):
    """CLIP's patches (n, S^2, vision) to image tokens (n, S^2/4, hidden)."""

    def __init__(self, vision: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * vision)
        self.linear_1 = nn.Linear(4 * vision, hidden)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(hidden, hidden)

    def forward(self, image_features: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        tokens: torch.Tensor = self.linear_2(self.act(self.linear_1(self.norm(pixel_shuffle(image_features)))))
        return tokens
