"""The grey values of one frame as the model sees them: what its header asks for, in the order of PS3.4 N.2.

Stored values, modality lookup table or rescaling, then VOI lookup table, window or percentiles, then inversion. In an
enhanced multi-frame file the frame's own functional group counts before the shared one, and both before the file
(PS3.3 C.7.6.16.1.1, C.7.6.16.2.9, C.7.6.16.2.10).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from site_client.imaging.lookup_tables import PALETTE_KEYWORDS, lookup_table, painted, palette
from site_client.imaging.windows import (
    CT_WINDOWS_HU,
    FUNCTIONS,
    LookupTable,
    Values,
    Window,
    between,
    eight_bits,
    looked_up,
    percentile_range,
    rescaled,
    shown_by_table,
    windowed,
)
from site_client.records import RefusedItemError

__all__ = ["AS_ON_A_SCREEN", "FOR_THE_MODEL", "GREY_KEYWORDS", "Choice", "Grey", "grey_header", "grey_picture"]

GREY_KEYWORDS = (
    "Modality", "ImageType", "PixelRepresentation", "PhotometricInterpretation", "BitsStored", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PresentationLUTShape", "PixelPresentation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *PALETTE_KEYWORDS,
)  # fmt: skip
"""What this module reads."""

_GROUPS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
}
_MOST_SAMPLED = 1 << 20  # values that percentiles are taken of
_BLOCK = 1 << 18  # pixels worked on at a time
_LARGEST = 1e12  # slope and intercept; beyond it no unit of a hospital lies


@dataclass(frozen=True, slots=True)
class Choice:
    """What is not in the file: three windows for CT or the file's own, and the percentiles where it names no window."""

    ct_windows: bool
    percents: tuple[float, float]


FOR_THE_MODEL = Choice(ct_windows=True, percents=(0.5, 99.5))
AS_ON_A_SCREEN = Choice(ct_windows=False, percents=(0.0, 100.0))


@dataclass(frozen=True, slots=True)
class Grey:
    """What one frame's header says of its grey values. padding: the stored values, ends included, that are no image."""

    slope: float
    intercept: float
    modality_table: LookupTable | None
    voi_table: LookupTable | None
    window: Window | None
    inverted: bool
    hounsfield: bool
    padding: tuple[int, int] | None
    colours: tuple[int, NDArray[np.uint8]] | None


def grey_header(dataset: Dataset, frame: int, *, little: bool) -> Grey:
    """What the file's header says of frame `frame` (from 0). little: the file's byte order.

    RefusedItemError when the rescale slope is 0 or a table is malformed.
    """
    said = _of_frame(dataset, frame)
    slope, intercept = _rescale(said)
    signed = dataset.get("PixelRepresentation") == 1
    modality = _first_item(dataset.get("ModalityLUTSequence"))
    modality_table = lookup_table(modality, signed=signed, little=little) if modality is not None else None
    voi = _first_item(said.get("VOILUTSequence"))
    below_zero = modality_table is None and (signed or intercept < 0 or slope < 0)
    shape = str(dataset.get("PresentationLUTShape") or "")
    monochrome1 = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    mapped = dataset.get("PixelPresentation") in ("COLOR", "MIXED") and PALETTE_KEYWORDS[0] in dataset
    return Grey(
        slope=slope, intercept=intercept, modality_table=modality_table,
        voi_table=lookup_table(voi, signed=below_zero, little=little) if voi is not None else None,
        window=_window(said),
        # MONOCHROME1 implies INVERSE where both are there (PS3.3 C.11.6.1.2); they do not cancel out
        inverted=monochrome1 or shape == "INVERSE",
        hounsfield=_hounsfield(dataset, said, frame) and not monochrome1 and not mapped and modality is None,
        padding=_padding(dataset, signed),
        colours=palette(dataset, signed=signed, little=little) if mapped else None,
    )  # fmt: skip


def grey_picture(stored: NDArray[np.integer], grey: Grey, choice: Choice) -> tuple[NDArray[np.uint8], str]:
    """uint8 (rows, columns, 3) of the stored values (rows, columns; contiguous, of this machine's byte order), and in
    words how the grey values were chosen.

    Beside the picture it takes some 50 MiB and a few bytes a pixel, whatever the picture.
    """
    channels, how = _channels(stored, grey, choice)
    picture = np.empty((*stored.shape, 3), dtype=np.uint8)
    for place in range(3):
        if place < len(channels):
            picture[:, :, place] = _applied(stored, channels[place])
        else:
            picture[:, :, place] = picture[:, :, 0]
    if grey.padding is not None:
        low, high = grey.padding
        picture[(stored >= low) & (stored <= high)] = 0
    if grey.colours is not None:  # PS3.3 C.7.6.19: grey below the first value mapped, coloured from it on
        first, table = grey.colours
        coloured = stored >= first
        picture[coloured] = painted(stored[coloured], first, table)
        how += ", with the file's supplementary colours"
    return picture, how


Shown = Callable[[Values], Values]


def _channels(stored: NDArray[np.integer], grey: Grey, choice: Choice) -> tuple[list[Shown], str]:
    """One function, or one for each colour, from stored values to 0..1; and in words what it does."""

    def units(values: Values) -> Values:
        if grey.modality_table is not None:
            return looked_up(values, grey.modality_table)
        return rescaled(values, grey.slope, grey.intercept)

    def inverted(shown: Values) -> Values:
        return 1 - shown if grey.inverted else shown

    if grey.hounsfield and choice.ct_windows:
        ranges = ", ".join(f"{low:g} to {high:g}" for low, high in CT_WINDOWS_HU)
        return [_three(units, low, high) for low, high in CT_WINDOWS_HU], f"CT windows {ranges} HU in red, green, blue"
    if (table := grey.voi_table) is not None:
        return [lambda values: inverted(shown_by_table(units(values), table))], "lookup table of the file"
    if (window := grey.window) is not None:
        name = "" if window.function == "LINEAR" else f" ({window.function})"
        return ([lambda values: inverted(windowed(units(values), window))],
                f"window {window.center:g}/{window.width:g}{name} of the file")  # fmt: skip
    low, high = percentile_range(units(_sample(stored, grey)), choice.percents)
    least, most = choice.percents
    scope = "full range" if (least, most) == (0, 100) else f"percentiles {least:g} to {most:g}"
    return [lambda values: inverted(between(units(values), low, high))], \
        f"{scope} of the values: the file names no window"  # fmt: skip


def _three(units: Shown, low: float, high: float) -> Shown:
    return lambda values: between(units(values), low, high)


def _applied(stored: NDArray[np.integer], shown: Shown) -> NDArray[np.uint8]:
    """uint8 as `stored`, block by block: of up to 16 bits by a table of every value that there is."""
    flat, out = stored.reshape(-1), np.empty(stored.size, dtype=np.uint8)
    if stored.dtype.itemsize <= 2:
        unsigned = np.dtype(f"u{stored.dtype.itemsize}")
        every = np.arange(2 ** (8 * unsigned.itemsize), dtype=unsigned).view(stored.dtype)
        table, flat = eight_bits(shown(every.astype(np.float64))), flat.view(unsigned)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        out[start : start + _BLOCK] = \
            table[block] if stored.dtype.itemsize <= 2 else eight_bits(shown(block.astype(np.float64)))
    return out.reshape(stored.shape)


def _sample(stored: NDArray[np.integer], grey: Grey) -> Values:
    """Every value, or of large pictures evenly spaced ones, without padding and colours (PS3.3 C.7.5.1.1.2)."""
    step = -(-stored.size // _MOST_SAMPLED)
    values = stored.reshape(-1)[::step]
    counted = np.ones(values.shape, dtype=bool)
    if grey.padding is not None:
        counted &= (values < grey.padding[0]) | (values > grey.padding[1])
    if grey.colours is not None:
        counted &= values < grey.colours[0]
    return values[counted].astype(np.float64)


def _of_frame(dataset: Dataset, frame: int) -> dict[str, Any]:
    """The elements of `_GROUPS` as they hold for this frame."""
    said: dict[str, Any] = {}
    shared = _item(dataset.get("SharedFunctionalGroupsSequence"), 0)
    own = _item(dataset.get("PerFrameFunctionalGroupsSequence"), frame)
    for macro, keywords in _GROUPS.items():
        groups = (_first_item(group.get(macro)) for group in (own, shared) if group is not None)
        source = next((group for group in groups if group is not None), dataset)
        said |= {keyword: source.get(keyword) for keyword in keywords if keyword in source}
    return said


def _rescale(said: dict[str, Any]) -> tuple[float, float]:
    slope, intercept = (_number(said.get(keyword)) for keyword in ("RescaleSlope", "RescaleIntercept"))
    slope, intercept = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    if not 1 / _LARGEST <= abs(slope) <= _LARGEST or not abs(intercept) <= _LARGEST:
        raise RefusedItemError("rescale-unusable")
    return slope, intercept


def _window(said: dict[str, Any]) -> Window | None:
    """The first window that can be used; a width of 0, which scanners write, is none."""
    centers, widths = _numbers(said.get("WindowCenter")), _numbers(said.get("WindowWidth"))
    function = str(said.get("VOILUTFunction") or "LINEAR")
    if function not in FUNCTIONS:
        return None
    windows = (Window(*pair, function) for pair in zip(centers, widths, strict=False))
    return next((window for window in windows if window.usable), None)


def _hounsfield(dataset: Dataset, said: dict[str, Any], frame: int) -> bool:
    """CT whose values are HU (PS3.3 C.8.2.1, C.11.1.1.2), and no localizer."""
    numbers = (_number(said.get(keyword)) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if dataset.get("Modality") != "CT" or None in numbers:
        return False
    kinds = [dataset.get("ImageType")]
    for group in (_item(dataset.get("PerFrameFunctionalGroupsSequence"), frame),
                  _item(dataset.get("SharedFunctionalGroupsSequence"), 0)):  # fmt: skip
        if group is not None and (kind := _first_item(group.get("CTImageFrameTypeSequence"))) is not None:
            kinds.append(kind.get("FrameType"))
    parts = {str(part).strip().upper() for kind in kinds if kind for part in _several(kind)}
    return str(said.get("RescaleType") or "HU").strip() == "HU" and "LOCALIZER" not in parts


def _padding(dataset: Dataset, signed: bool) -> tuple[int, int] | None:
    """Stored values that are padding (PS3.3 C.7.5.1.1.2); a value that the stored bits cannot hold is ignored."""
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    bits = dataset.get("BitsStored")
    if not isinstance(value, int) or not isinstance(bits, int):
        return None
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    least, most = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return (low, high) if least <= low and high <= most else None


def _item(sequence: Sequence[Dataset] | None, place: int) -> Dataset | None:
    return sequence[place] if sequence is not None and len(sequence) > place else None


def _first_item(sequence: Sequence[Dataset] | None) -> Dataset | None:
    return _item(sequence, 0)


def _several(value: object) -> list[object]:
    """The values of an element that may hold none, one or several."""
    if value is None or value == "":
        return []
    return list(value) if not isinstance(value, str | bytes) and hasattr(value, "__getitem__") else [value]  # type: ignore[call-overload]


def _numbers(value: object) -> list[float]:
    """Every number of an element; nan in the place of what is none."""
    return [float(part) if part not in (None, "") else math.nan for part in _several(value)]  # type: ignore[arg-type]


def _number(value: object) -> float | None:
    return next(iter(_numbers(value)), None)
