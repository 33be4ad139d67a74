"""Ready tiles on the protected volume, so that each picture is decoded once and not once an epoch.

Content-addressed: a file's name is a hash of the patient, the DICOM file's bytes, the frame, the form of the tiles and
the version of what made them. A changed image, or another way of making pictures, is another name.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["PIPELINE_VERSION", "CachedImage", "TileCache", "TileForm"]

PIPELINE_VERSION = 1
"""Of decoding, windows and tiling together: raise it when the same file would give other tiles."""


_MOST_HEADER_BYTES = 256  # of numpy's file format, for the four dimensions of tiles


@dataclass(frozen=True, slots=True)
class TileForm:
    """How a model wants its tiles: side in pixels, most of one picture."""

    image_size: int
    max_tiles: int

    def __str__(self) -> str:
        return f"v{PIPELINE_VERSION}-{self.image_size}-{self.max_tiles}"


class TileCache:
    """Tiles by name in `folder` (0700)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def name(digest: str, frame: int, form: TileForm) -> str:
        """64 hexadecimal digits. digest: of the content, such as SHA-256 of a DICOM file's bytes."""
        return hashlib.sha256(f"{digest}|{frame}|{form}".encode()).hexdigest()

    def path(self, name: str) -> Path:
        """Where it lies."""
        return self._folder / name[:2] / f"{name}.npy"

    def write(self, name: str, tiles: NDArray[np.uint8]) -> None:
        """Keep tiles, uint8 (n, 3, S, S); whole or not at all."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        buffer = io.BytesIO()
        np.save(buffer, tiles, allow_pickle=False)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(buffer.getbuffer())
        partial.replace(path)

    def read(self, name: str) -> NDArray[np.uint8]:
        """uint8 (n, 3, S, S). Raises OSError or ValueError when it is missing or damaged."""
        tiles = np.load(self.path(name), allow_pickle=False)
        if tiles.dtype != np.uint8 or tiles.ndim != 4:
            raise ValueError("a cached picture is damaged")
        return np.asarray(tiles)

    def has(self, name: str, count: int, form: TileForm) -> bool:
        """Whether it lies there, as long as so many tiles are: a power cut may leave an empty file."""
        try:
            header = self.path(name).stat().st_size - count * 3 * form.image_size**2
        except OSError:
            return False
        return 0 < header <= _MOST_HEADER_BYTES

    def keep_only(self, names: Collection[str]) -> int:
        """Remove every other file; how many."""
        gone = 0
        for path in self._folder.glob("??/*"):
            if path.name.removesuffix(".npy") not in names:
                path.unlink(missing_ok=True)
                gone += 1
        return gone


@dataclass(frozen=True, eq=False)
class CachedImage:
    """A picture of the index, by its name in the cache; see `model.inputs.StoredImage`."""

    cache: TileCache = field(repr=False)
    name: str = field(repr=False)
    form: TileForm
    count: int

    def num_tiles(self, *, image_size: int, max_tiles: int) -> int:
        """See `model.inputs.StoredImage`. ValueError for another form than the one it was made in."""
        if TileForm(image_size, max_tiles) != self.form:
            raise ValueError("the picture cache was made for a model with other tiles; run `site-client index` again")
        return self.count

    def tiles(self, *, image_size: int, max_tiles: int) -> NDArray[np.uint8]:
        """uint8 (n, 3, S, S)."""
        self.num_tiles(image_size=image_size, max_tiles=max_tiles)
        return self.cache.read(self.name)

    def overview(self) -> NDArray[np.uint8]:
        """The whole picture as one tile, uint8 (S, S, 3)."""
        return np.asarray(self.cache.read(self.name)[-1].transpose(1, 2, 0))
