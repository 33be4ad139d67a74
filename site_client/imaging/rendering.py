"""Stand-in for the renderer, which another branch brings: the frames as they decode, grey stretched over 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels import pixel_array

__all__ = ["render_frames"]


def render_frames(path: Path, frames: Sequence[int]) -> list[tuple[NDArray[np.uint8], str]]:
    """For each frame (from 0) uint8 (H, W, 3) and in words how the values were chosen."""
    return [_shown(pixel_array(path, index=frame)) for frame in frames]


def _shown(stored: NDArray[Any]) -> tuple[NDArray[np.uint8], str]:
    if stored.ndim == 3 and stored.dtype == np.uint8:
        return np.asarray(stored, np.uint8), "colour"
    values = stored.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    grey = ((values - low) * (255.0 / max(high - low, 1.0))).round().astype(np.uint8)
    return grey if grey.ndim == 3 else np.repeat(grey[:, :, None], 3, axis=2), "full range"
