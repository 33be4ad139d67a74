"""Whether a picture shows text, by tesseract, for pictures that are suspected of a name burned into them.

The picture goes in as PGM through a pipe, words come back through another: no file is written, and the words are not
kept. It fails closed: a reader that crashes, or does not finish, counts as text found.
"""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["cannot_read_text", "finds_text"]

_TOOL = "tesseract"
_LEAST_CONFIDENCE = 80.0  # percent; vessels and bones were read as "wit" with 76, burned-in words with 87 and more
_LEAST_LETTERS = 3
_ENLARGED, _MOST_SIDE = 2.0, 4096  # burned-in letters are some 10 pixels high, tesseract wants 20
_PATH = "/usr/local/bin:/usr/bin:/bin"


def cannot_read_text() -> str | None:
    """Why no text can be looked for here, in one sentence with the fix; None where it can."""
    if shutil.which(_TOOL, path=_PATH) is None:
        return ("tesseract, which looks for text burned into pictures, is not installed; run: apt-get install "
                "tesseract-ocr, or set images.burned_in to refuse or accept")
    return None


def finds_text(pixels: NDArray[np.uint8], *, timeout_s: float = 60.0) -> bool:
    """Whether tesseract reads at least one word of three letters or digits in uint8 (H, W, 3) RGB.

    True too when it fails or needs longer than `timeout_s`. It misses what is handwritten, tiny or of low contrast: a
    filter of suspects, no proof. Raises ValueError where tesseract is not installed.
    """
    if reason := cannot_read_text():
        raise ValueError(reason)
    try:
        done = subprocess.run(
            [_TOOL, "stdin", "stdout", "--psm", "11", "tsv"], input=_pgm(pixels), capture_output=True, check=False,
            timeout=timeout_s, env={"PATH": _PATH, "LC_ALL": "C.UTF-8", "OMP_THREAD_LIMIT": "1"})  # fmt: skip
        return done.returncode != 0 or _has_word(done.stdout.decode("utf-8", "replace"))
    except (OSError, ValueError, subprocess.TimeoutExpired):  # ValueError: a table that is none
        return True


def _pgm(pixels: NDArray[np.uint8]) -> bytes:
    """The picture in grey, enlarged."""
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    scale = max(1.0, min(_ENLARGED, _MOST_SIDE / max(image.size)))
    large = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    return b"P5 %d %d 255\n" % large.size + large.tobytes()


def _has_word(table: str) -> bool:
    """Of tesseract's TSV: 12 columns, the last two confidence (-1 where no word is) and text."""
    for line in table.splitlines()[1:]:
        columns = line.split("\t")
        if len(columns) == 12 and sum(map(str.isalnum, columns[11])) >= _LEAST_LETTERS \
                and float(columns[10]) >= _LEAST_CONFIDENCE:  # fmt: skip
            return True
    return False
