"""Many pictures on one, so that a person can look at what the model is given."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from privacy.durable import write_whole

__all__ = ["write_contact_sheet"]

_MARGIN, _LINE = 6, 12
_BACKGROUND, _INK = (48, 48, 56), (255, 255, 255)


def write_contact_sheet(
    path: Path, pictures: Sequence[tuple[str, NDArray[np.uint8]]], *, columns: int = 8, side: int = 160,
    colours: int | None = None,
) -> None:
    """Write one PNG of (caption, uint8 (H, W, 3) RGB) pairs, row by row; it appears whole or not at all, mode 0600.

    Each picture is shrunk to fit `side` x `side` pixels, never enlarged beyond twice its size. A caption has up to two
    lines ("\\n" between them), cut at the picture's width; it must name no patient, for it is shown as it is. colours:
    of a palette that makes the file a third as large, None for all. Raises ValueError without a picture, OSError.
    """
    if not pictures or columns < 1 or side < 16:
        raise ValueError("contact sheet: at least one picture, one column and 16 pixels a side are needed")
    width, height = side + _MARGIN, side + 2 * _LINE + _MARGIN
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width + _MARGIN, rows * height + _MARGIN), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=9)
    for place, (caption, pixels) in enumerate(pictures):
        left, top = _MARGIN + place % columns * width, _MARGIN + place // columns * height
        small = _fitted(Image.fromarray(np.ascontiguousarray(pixels)), side)
        sheet.paste(small, (left + (side - small.width) // 2, top + (side - small.height) // 2))
        for line, text in enumerate(caption.split("\n")[:2]):
            draw.text((left, top + side + line * _LINE), _cut(text, side, font), fill=_INK, font=font)
    body = io.BytesIO()
    (sheet if colours is None else sheet.quantize(colours)).save(body, "PNG", optimize=True)
    write_whole(path, body.getvalue())


def _fitted(image: Image.Image, side: int) -> Image.Image:
    scale = min(side / image.width, side / image.height, 2.0)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def _cut(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
