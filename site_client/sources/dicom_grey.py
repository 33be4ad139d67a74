"""The picture that a grey DICOM image shows on a screen: stored values to modality units, window, 8 bits.

DICOM PS3.3 C.7.6.3 (pixels), C.11.1 (modality LUT), C.11.2 (VOI LUT and window), C.7.6.3.1.2 (MONOCHROME1 is shown
inverted). For `site-client answer` only: training reads photographs (`site_client.sources.dicom`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi

from site_client.records import RefusedItemError
from site_client.sources.dicom import checked_size

__all__ = ["GREY_KEYWORDS", "grey_pixels"]

GREY_KEYWORDS = (
    "HighBit", "PixelPaddingValue", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "VOILUTSequence",
)  # fmt: skip
"""What this module reads beside the description of the pixels."""

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def grey_pixels(dataset: Dataset) -> tuple[NDArray[np.uint8], str]:
    """uint8 (rows, columns, 3) as shown, and in words how grey values were chosen.

    The file's first window; without one its first lookup table; without both the full range of its values.
    RefusedItemError for anything but one uncompressed frame of MONOCHROME1 or 2 with 8 or 16 bits.
    """
    stored = _stored_values(dataset)
    values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
    if (window := _window(dataset)) is not None:
        center, width, function = window
        shown, how = _windowed(values, center, width, function), f"window {center:g}/{width:g} of the file"
    elif dataset.get("VOILUTSequence") and values.dtype.kind == "f" and not (values % 1).any():
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        table = apply_voi(values.astype(np.int32), dataset)
        shown, how = np.asarray(table, dtype=np.float32) / (2**bits - 1), "lookup table of the file"
    else:
        shown, how = _full_range(values, stored, dataset), "full range of the values: the file names no window"
    if not np.isfinite(shown).all():
        raise RefusedItemError("image-kind")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    grey = (shown.clip(0, 1) * 255).round().astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2), how


def _stored_values(dataset: Dataset) -> NDArray[np.int32]:
    """int32 (rows, columns); bits above the stored ones may hold an old overlay and are dropped (PS3.5 8.1.1)."""
    rows, columns = checked_size(dataset)
    allocated, bits = dataset.get("BitsAllocated"), dataset.get("BitsStored")
    signed = dataset.get("PixelRepresentation")
    known = (dataset.get("SamplesPerPixel") == 1 and dataset.get("NumberOfFrames") in (None, 1) and signed in (0, 1)
             and dataset.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2") and allocated in (8, 16))
    if not known or not isinstance(bits, int) or not 1 <= bits <= allocated or dataset.get("HighBit") != bits - 1:
        raise RefusedItemError("image-kind")
    body, length = dataset.get("PixelData"), rows * columns * allocated // 8
    if not isinstance(body, bytes) or len(body) != length + length % 2:
        raise RefusedItemError("pixels-truncated")
    values = np.frombuffer(body, dtype=f"<u{allocated // 8}", count=rows * columns).astype(np.int32)
    values = (values << (32 - bits)) >> (32 - bits) if signed else values & ((1 << bits) - 1)
    return values.reshape(rows, columns)


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """(center, width, function) of the first window; None where there is none that can be used."""
    center, width = (_first(dataset.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if center is None or width is None or function not in _FUNCTIONS:
        return None
    usable = math.isfinite(center) and math.isfinite(width) and (width >= 1 if function == "LINEAR" else width > 0)
    return (center, width, function) if usable else None


def _first(value: object) -> float | None:
    """The first number of an element that may hold several, or nothing."""
    values = value if not isinstance(value, str | bytes) and hasattr(value, "__getitem__") else [value]
    return float(values[0]) if len(values) and values[0] not in (None, "") else None  # type: ignore[arg-type]


def _windowed(values: NDArray[np.float32], center: float, width: float, function: str) -> NDArray[np.float32]:
    """0..1, clipped: PS3.3 C.11.2.1.2.1 (linear), C.11.2.1.3.1 (sigmoid), C.11.2.1.3.2 (linear exact)."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp((-4 * (values - center) / width).clip(-80, 80))), dtype=np.float32)
    if function == "LINEAR":
        if width == 1:
            return (values > center - 0.5).astype(np.float32)
        center, width = center - 0.5, width - 1
    return np.asarray(((values - center) / width + 0.5).clip(0, 1), dtype=np.float32)


def _full_range(values: NDArray[np.float32], stored: NDArray[np.int32], dataset: Dataset) -> NDArray[np.float32]:
    """The least value black and the greatest white; padding (PS3.3 C.7.5.1.1.2) does not count."""
    counted = values
    padding = dataset.get("PixelPaddingValue")
    if isinstance(padding, int) and (stored != padding).any():
        counted = values[stored != padding]
    low, high = float(counted.min()), float(counted.max())
    return np.asarray((values - low) / max(high - low, 1e-6), dtype=np.float32)
