"""Grey values to what a screen shows: the arithmetic of DICOM PS3.3 C.11.1 (modality) and C.11.2 (window, table).

On numbers alone: nothing here knows a file. Values are float64 of any shape. What is shown runs from 0 (black) to
1 (white) until `eight_bits`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CT_WINDOWS_HU", "FUNCTIONS", "LookupTable", "Window", "between", "eight_bits", "looked_up", "percentile_range",
    "rescaled", "shown_by_table", "windowed",
]  # fmt: skip

Values = NDArray[np.float64]

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
CT_WINDOWS_HU = ((-1024.0, 1024.0), (-135.0, 215.0), (0.0, 80.0))
"""(black, white) of red, green and blue, as MedGemma 1.5 sees a CT slice: everything, soft tissue, brain."""


@dataclass(frozen=True, slots=True)
class Window:
    """WindowCenter, WindowWidth and VOILUTFunction, in modality units (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""

    center: float
    width: float
    function: str = "LINEAR"

    @property
    def usable(self) -> bool:
        """Whether the standard gives it a meaning: LINEAR wants a width of at least 1, the others one above 0."""
        finite = math.isfinite(self.center) and math.isfinite(self.width)
        least = self.width >= 1 if self.function == "LINEAR" else self.width > 0
        return self.function in FUNCTIONS and finite and least


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A modality or VOI lookup table: what the value `first` becomes, and those after it; 0..2^bits - 1."""

    first: int
    entries: NDArray[np.uint16] = field(repr=False)
    bits: int


def rescaled(stored: Values, slope: float, intercept: float) -> Values:
    """Modality units, such as HU (PS3.3 C.11.1.1.2)."""
    return stored * slope + intercept


def looked_up(values: Values, table: LookupTable) -> Values:
    """The table's entry of each value; below its first value the first entry, above its last one the last
    (PS3.3 C.11.1.1.1, C.11.2.1.1). Values between whole numbers are rounded."""
    places = (np.rint(values) - table.first).clip(0, len(table.entries) - 1).astype(np.int64)
    return np.asarray(table.entries[places], dtype=np.float64)


def shown_by_table(values: Values, table: LookupTable) -> Values:
    """0..1 of a VOI lookup table, whose greatest possible entry is white (PS3.3 C.11.2.1.1)."""
    return np.asarray(looked_up(values, table) / (2**table.bits - 1), dtype=np.float64)


def windowed(values: Values, window: Window) -> Values:
    """0..1: PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT); a usable window."""
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp((-4 * (values - center) / width).clip(-80, 80))), dtype=np.float64)
    if window.function == "LINEAR":
        if width == 1:
            return (values > center - 0.5).astype(np.float64)
        center, width = center - 0.5, width - 1
    return ((values - center) / width + 0.5).clip(0, 1)


def between(values: Values, low: float, high: float) -> Values:
    """0 up to `low`, 1 from `high`, a line between; a constant picture (low = high) is black."""
    return ((values - low) / max(high - low, 1e-12)).clip(0, 1)


def percentile_range(values: Values, percents: tuple[float, float]) -> tuple[float, float]:
    """Two values that occur: the least ones at or below which these shares lie; least and greatest where they coincide.

    Of no values, (0, 0).
    """
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values, percents, method="inverted_cdf")
    return (float(low), float(high)) if low < high else (float(values.min()), float(values.max()))


def eight_bits(shown: Values) -> NDArray[np.uint8]:
    """0..1 as 0..255, rounded to the nearest."""
    return np.rint(shown * 255).clip(0, 255).astype(np.uint8)
