"""Pictures of a benchmark: PNG or JPEG by Pillow, inside the benchmark's folder, with bounded sizes.

The header alone is read when the benchmark is opened, so that a missing or unusable picture is told before a model is
loaded; pixels are decoded when the question is asked.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

__all__ = ["MAX_FILE_BYTES", "MAX_PIXELS", "MAX_SIDE_PIXELS", "Picture", "embedded", "in_folder"]

MAX_FILE_BYTES = 64 << 20
MAX_SIDE_PIXELS = 16_384
MAX_PIXELS = 64 << 20
_FORMATS = ("PNG", "JPEG")
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture: a file, or the bytes that a table holds. where: the row that names it, for messages."""

    name: str
    where: str
    size_bytes: int
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)

    def check(self) -> None:
        """ValueError, one sentence, unless the header is that of a usable picture."""
        with self._opened():
            pass

    def pixels(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3), RGB; transparent parts lie on white. Raises ValueError as `check`, and when damaged."""
        with self._opened() as image:
            try:
                upright = ImageOps.exif_transpose(image)
                if upright.has_transparency_data:
                    upright = upright.convert("RGBA")
                    upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
                return np.array(upright.convert("RGB"), dtype=np.uint8)
            except MemoryError:
                raise
            except Exception:  # a damaged file makes the decoders raise nearly anything
                raise self._refusal("is damaged and cannot be decoded; get the file again") from None

    def _opened(self) -> Image.Image:
        if self.size_bytes > MAX_FILE_BYTES:
            raise self._refusal(f"is larger than {MAX_FILE_BYTES >> 20} MiB; save it smaller")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                data = self.data if self.path is None else self.path.read_bytes()
                image = Image.open(io.BytesIO(data or b""), formats=_FORMATS)
            except Exception:  # Pillow's own classes, and OSError of a file that went away
                raise self._refusal("is not a PNG or JPEG that can be read; convert it") from None
        width, height = image.size
        if max(width, height) > MAX_SIDE_PIXELS or width * height > MAX_PIXELS:
            raise self._refusal(f"is {width} x {height} pixels, which is too large; save it smaller")
        if image.mode not in _MODES or getattr(image, "n_frames", 1) > 1:
            raise self._refusal("is not one picture of 8 bits a channel; save it as one")
        return image

    def _refusal(self, why: str) -> ValueError:
        return ValueError(f"{self.where}: picture {self.name} {why}")


def in_folder(folder: Path, name: str, where: str) -> Picture:
    """The picture `name` of a row, relative to `folder`; links are followed, and must stay inside.

    Raises ValueError, one sentence, for an absolute name, one that leads out of the folder, and a missing file.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name or parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"{where}: picture {name!r} must be a name inside {folder}; remove what leads out of it")
    try:
        path = (folder / parts).resolve(strict=True)
        inside = path.is_relative_to(folder.resolve(strict=True))
        size = path.stat().st_size if path.is_file() else -1
    except (OSError, RuntimeError):
        raise ValueError(f"{where}: picture {name} is not in {folder}; unpack the benchmark's images there") from None
    if not inside:
        raise ValueError(f"{where}: picture {name} is a link out of {folder}; copy the file into it")
    if size < 0:
        raise ValueError(f"{where}: picture {name} is no file; unpack the benchmark's images again")
    return Picture(name, where, size, path=path)


def embedded(data: bytes, name: str, where: str) -> Picture:
    """A picture whose bytes a table holds."""
    return Picture(name, where, len(data), data=data)
