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
from pydicom.dataset import Dataset

from site_client.imaging.grey import AS_ON_A_SCREEN
from site_client.imaging.rendering import rendered
from site_client.records import RefusedItemError
from site_client.sources.dicom import (
    MAX_FILE_BYTES,
    MAX_SIDE_PIXELS,
    checked_size,
    native_dataset,
    quiet_library,
    read_bounded,
    rgb_pixels,
)

__all__ = ["Picture", "read_picture"]

_FORMATS = ("PNG", "JPEG")
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
_KEYWORDS = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "PixelData",
)  # fmt: skip
_SENTENCES = {
    "file-not-readable": "cannot be opened as a regular file",
    "file-too-large": f"is larger than {MAX_FILE_BYTES >> 20} MiB",
    "image-size": f"has a side that is missing, or longer than {MAX_SIDE_PIXELS} pixels",
    "image-kind": "is a DICOM file, but not one frame of grey (8 or 16 bits) or of 8-bit RGB",
    "lookup-table": "is a DICOM file with a malformed lookup table",
    "pixel-kind": "is a DICOM file, but not one frame of grey (8 or 16 bits) or of 8-bit RGB",
    "pixels-truncated": "is a DICOM file whose pixels have not the length that its header says",
    "transfer-syntax": "is a compressed or big-endian DICOM file; convert it first, for example with `gdcmconv --raw`",
    "pixels-undecodable": "is a DICOM file whose pixels cannot be read",
    "rescale-unusable": "is a DICOM file whose rescale slope is zero or no usable number",
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
        sentence = "does not exist" if not path.exists() else _SENTENCES.get(refusal.code, "cannot be shown")
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
            _check_grey(dataset)
        (picture,) = rendered(io.BytesIO(data), (0,), choice=AS_ON_A_SCREEN)
        return Picture(*picture)
    except (RefusedItemError, MemoryError):
        raise
    except Exception:
        # A damaged file makes the library raise nearly anything, with values of the file in the text.
        raise RefusedItemError("dicom-unreadable") from None


def _check_grey(dataset: Dataset) -> None:
    """One uncompressed frame of MONOCHROME1 or 2 with 8 or 16 bits, of the length that the header says."""
    rows, columns = checked_size(dataset)
    bits = dataset.get("BitsAllocated")
    known = (dataset.get("SamplesPerPixel") == 1 and dataset.get("NumberOfFrames") in (None, 1) and bits in (8, 16)
             and dataset.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2"))
    if not known:
        raise RefusedItemError("image-kind")
    body, length = dataset.get("PixelData"), rows * columns * bits // 8
    if not isinstance(body, bytes) or len(body) != length + length % 2:
        raise RefusedItemError("pixels-truncated")


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
