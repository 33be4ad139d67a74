"""One picture for a question at the operator's desk: PNG or JPEG by Pillow, DICOM by this site's own rules.

Sizes are known from the file's header, and bounded, before a pixel is decoded. What was read stays in memory.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from site_client.records import RefusedItemError
from site_client.sources.dicom import (
    MAX_FILE_BYTES,
    MAX_SIDE_PIXELS,
    native_dataset,
    quiet_library,
    read_bounded,
    rgb_pixels,
)
from site_client.sources.dicom_grey import GREY_KEYWORDS, grey_pixels

__all__ = ["Picture", "read_picture"]

_FORMATS = ("PNG", "JPEG")
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
_KEYWORDS = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated",
    "BitsStored", "PixelRepresentation", "NumberOfFrames", "PixelData", *GREY_KEYWORDS,
)  # fmt: skip
_SENTENCES = {
    "file-not-readable": "cannot be opened as a regular file",
    "file-too-large": f"is larger than {MAX_FILE_BYTES >> 20} MiB",
    "image-size": f"has a side that is missing, or longer than {MAX_SIDE_PIXELS} pixels",
    "image-kind": "is a DICOM file, but not one frame of grey (8 or 16 bits) or of 8-bit RGB",
    "pixels-truncated": "is a DICOM file whose pixels have not the length that its header says",
    "transfer-syntax": "is a compressed or big-endian DICOM file; convert it first, for example with `gdcmconv --raw`",
    "dicom-unreadable": "is a damaged DICOM file",
}


@dataclass(frozen=True, eq=False)
class Picture:
    """pixels: uint8 (H, W, 3), RGB. how: how grey values were chosen, "" for a picture in colour or a bitmap."""

    pixels: NDArray[np.uint8] = field(repr=False)
    how: str = ""


def read_picture(path: Path) -> Picture:
    """Read one file; a link is followed, for the operator named it. Raises ValueError, one sentence with the name."""
    try:
        data = read_bounded(path.resolve())
        return _dicom(data) if data[128:132] == b"DICM" else Picture(_bitmap(data))
    except RefusedItemError as refusal:
        sentence = "does not exist" if not path.exists() else _SENTENCES[refusal.code]
    except _UnusableError as error:
        sentence = str(error)
    except (OSError, RuntimeError):  # a link that leads to itself, a name that is too long
        sentence = _SENTENCES["file-not-readable"]
    raise ValueError(f"image {path} {sentence}.")


class _UnusableError(Exception):
    """Why a bitmap cannot be used, as the end of a sentence."""


def _dicom(data: bytes) -> Picture:
    try:
        with quiet_library():
            dataset = native_dataset(data, _KEYWORDS)
            if dataset.get("SamplesPerPixel") == 3:
                return Picture(rgb_pixels(dataset))
            return Picture(*grey_pixels(dataset))
    except (RefusedItemError, MemoryError):
        raise
    except Exception:
        # A damaged file makes the library raise nearly anything, with values of the file in the text.
        raise RefusedItemError("dicom-unreadable") from None


def _bitmap(data: bytes) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                _check_bitmap(image)
                return np.array(_opaque(ImageOps.exif_transpose(image)).convert("RGB"), dtype=np.uint8)
        except (_UnusableError, RefusedItemError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise _UnusableError("is not an image that can be read here: use PNG, JPEG or DICOM") from None
        except Image.DecompressionBombError:
            raise RefusedItemError("image-size") from None
        except Exception:  # a damaged file makes the decoders raise nearly anything
            raise _UnusableError("is damaged and cannot be decoded") from None


def _check_bitmap(image: Image.Image) -> None:
    """From the header alone: size, one frame, 8 bits."""
    if max(image.size) > MAX_SIDE_PIXELS:
        raise RefusedItemError("image-size")
    if getattr(image, "n_frames", 1) > 1:
        raise _UnusableError("is animated; use a single picture")
    if image.mode not in _MODES:
        raise _UnusableError("has more than 8 bits a channel, which need a window: use the DICOM file, or save 8 bits")


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema() != (255, 255):
        raise _UnusableError("has transparent parts; save it without transparency")
    return rgba
