"""The sheet shows every picture in its place; the file is whole or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from site_client.imaging.contact_sheet import write_contact_sheet


def filled(colour: tuple[int, int, int], rows: int = 40, columns: int = 20) -> np.ndarray:
    return np.full((rows, columns, 3), colour, dtype=np.uint8)


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


@pytest.mark.parametrize("palette", [None, 32])
def test_pictures_in_rows_with_captions(tmp_path: Path, palette: int | None) -> None:
    path = tmp_path / "sheet.png"
    pictures = [(f"CT\nwindow {place}", filled(colour)) for place, colour in enumerate(COLOURS)]
    write_contact_sheet(path, pictures, columns=2, side=40, colours=palette)
    sheet = np.asarray(Image.open(path).convert("RGB"))
    assert sheet.shape == (2 * (40 + 24 + 6) + 6, 2 * 46 + 6, 3)
    centres = [sheet[26, 26], sheet[26, 72], sheet[96, 26]]
    assert all(np.array_equal(got, colour) for got, colour in zip(centres, COLOURS, strict=True))
    assert (sheet[46:58, 6:46] > 180).all(axis=2).any()  # the caption's ink
    assert not (sheet[96:140, 52:92] > 60).any()  # no fourth picture
    assert path.stat().st_mode & 0o777 == 0o600 and [path] == list(tmp_path.iterdir())


def test_proportions_are_kept_and_large_pictures_shrunk(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "a.png", [("", filled((255, 0, 0), 100, 400))], side=40)
    red = (np.asarray(Image.open(tmp_path / "a.png")) == (255, 0, 0)).all(axis=2)
    assert red.any(axis=1).sum() == 10 and red.any(axis=0).sum() == 40


def test_long_captions_are_cut(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "a.png", [("W" * 500 + "\n" + "W" * 500, filled((0, 0, 0)))], side=40)
    assert Image.open(tmp_path / "a.png").width == 52


def test_nothing_to_show_and_nowhere_to_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        write_contact_sheet(tmp_path / "a.png", [])
    with pytest.raises(OSError):
        write_contact_sheet(tmp_path / "none" / "a.png", [("", filled((0, 0, 0)))])
    assert not list(tmp_path.iterdir())
