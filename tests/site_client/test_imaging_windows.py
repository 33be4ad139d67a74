"""Every rule with values computed by hand from the formulas of PS3.3 C.11."""

from __future__ import annotations

import math

import numpy as np
import pytest

from site_client.imaging.windows import (
    CT_WINDOWS_HU,
    LookupTable,
    Window,
    between,
    eight_bits,
    looked_up,
    percentile_range,
    rescaled,
    shown_by_table,
    windowed,
)


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)


def test_rescaling() -> None:
    assert rescaled(values(0, 1024, 4095), 1, -1024).tolist() == [-1024, 0, 3071]
    assert rescaled(values(10, -10), -0.5, 2).tolist() == [-3, 7]


def test_linear_is_the_examples_of_the_standard() -> None:
    # C.11.2.1.2.1 note: center 2048, width 4096 becomes 0 for x <= 0, 1 for x > 4095, else ((x - 2047.5)/4095 + 0.5)
    assert windowed(values(-5, 0, 4095, 5000), Window(2048, 4096)).tolist() == [0, 0, 1, 1]
    assert windowed(values(1024), Window(2048, 4096))[0] == pytest.approx(1024 / 4095)
    # center 0, width 100: 0 for x <= -50, 1 for x > 49
    assert windowed(values(-50, 49, 49.5), Window(0, 100)).tolist() == [0, 1, 1]
    assert windowed(values(0), Window(0, 100))[0] == pytest.approx(50 / 99)
    # center 0, width 1: 0 for x <= -0.5, else 1
    assert windowed(values(-1, -0.5, -0.4, 0), Window(0, 1)).tolist() == [0, 0, 1, 1]


def test_linear_exact_has_no_half_pixel() -> None:
    # C.11.2.1.3.2: center 2048, width 4096 becomes x / 4096
    window = Window(2048, 4096, "LINEAR_EXACT")
    assert windowed(values(0, 1024, 2048, 4096, 9999), window).tolist() == [0, 0.25, 0.5, 1, 1]
    assert windowed(values(0, 0.25), Window(0, 0.5, "LINEAR_EXACT")).tolist() == [0.5, 1]


def test_sigmoid() -> None:
    # C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w))
    shown = windowed(values(100, 125, 50, 1e9, -1e9), Window(100, 100, "SIGMOID"))
    assert shown[:3] == pytest.approx([0.5, 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(2))])
    assert eight_bits(shown[3:]).tolist() == [255, 0]


@pytest.mark.parametrize(
    ("window", "usable"),
    [(Window(0, 1), True), (Window(0, 0.5), False), (Window(0, 0), False), (Window(0, -3), False),
     (Window(0, 0.5, "SIGMOID"), True), (Window(0, 0, "LINEAR_EXACT"), False), (Window(math.nan, 5), False),
     (Window(0, math.inf), False), (Window(0, 5, "CUBIC"), False)],
)  # fmt: skip
def test_windows_without_a_meaning(window: Window, usable: bool) -> None:
    assert window.usable is usable


def test_tables_begin_and_end_with_their_ends() -> None:
    table = LookupTable(-2, np.array([5, 6, 1023], dtype=np.uint16), 10)
    assert looked_up(values(-900, -2, -1, 0, 900), table).tolist() == [5, 5, 6, 1023, 1023]
    assert looked_up(values(-1.4, -0.6), table).tolist() == [6, 6]  # to the nearest whole number
    assert shown_by_table(values(-2, 0), table).tolist() == [5 / 1023, 1]


def test_between() -> None:
    assert between(values(-10, 0, 5, 10, 99), 0, 10).tolist() == [0, 0, 0.5, 1, 1]
    assert between(values(7, 7), 7, 7).tolist() == [0, 0]


def test_percentiles_are_values_that_occur() -> None:
    hundred = np.arange(1.0, 1001.0)
    assert percentile_range(hundred, (0.5, 99.5)) == (5, 995)
    assert percentile_range(hundred, (0, 100)) == (1, 1000)
    # nearly all the same: the few others still count
    flat = np.zeros(1000)
    flat[0] = 9
    assert percentile_range(flat, (0.5, 99.5)) == (0, 9)
    assert percentile_range(values(), (0.5, 99.5)) == (0, 0)


def test_eight_bits_are_rounded() -> None:
    assert eight_bits(values(0, 0.4 / 255, 0.6 / 255, 0.5, 1)).tolist() == [0, 0, 1, 128, 255]


def test_ct_windows_as_medgemma_has_them() -> None:
    # -1024 black and 1024 white in red; -135 to 215 in green; 0 to 80 in blue
    hu = values(-1024, -135, 0, 40, 80, 215, 1024)
    red, green, blue = (eight_bits(between(hu, *window)).tolist() for window in CT_WINDOWS_HU)
    assert red == [0, 111, 128, 132, 137, 154, 255]  # 255 (889, 1024, 1064, 1104, 1239) / 2048
    assert green == [0, 0, 98, 128, 157, 255, 255]  # 255 (135, 175, 215) / 350 = 98.4, 127.5, 156.6
    assert blue == [0, 0, 0, 128, 255, 255, 255]
