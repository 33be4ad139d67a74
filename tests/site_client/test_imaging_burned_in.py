"""Text in the pixels is found where a hospital burned it in, and not in anatomy; failing counts as found."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont

from site_client.imaging import burned_in
from site_client.imaging.burned_in import cannot_read_text, finds_text
from site_client.imaging.rendering import render_frames
from site_client.records import RefusedItemError
from site_client.sources.dicom import quiet_library
from tests.site_client.real_dicom import need, real_file, real_files

BURNED_IN = (
    "examples_jpeg2k.dcm", "examples_rgb_color.dcm", "examples_ybr_color.dcm", "examples_palette.dcm", "US1_UNCR.dcm",
    "OBXXXX1A.dcm", "gdcm-US-ALOKA-16.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "color3d_jpeg_baseline.dcm",
)  # fmt: skip
"""Looked at by eye: hospitals, dates, numbers or machine settings are in their pixels."""

BLACK = np.zeros((60, 60, 3), dtype=np.uint8)


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """In tesseract's place."""
    tool = tmp_path / "tesseract"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(burned_in, "_PATH", f"{tmp_path}:/usr/bin:/bin")


def row(confidence: float, text: str) -> str:
    return "\t".join(["5", "1", "1", "1", "1", "1", "0", "0", "9", "9", str(confidence), text])


@pytest.mark.parametrize(
    ("word", "confidence", "found"),
    [("SMITH", 96, True), ("a12", 80, True), ("SMITH", 79.9, False), ("ab", 99, False), ("-.:", 99, False),
     ("1-2.3", 90, True), ("", -1, False)],
)  # fmt: skip
def test_a_word_is_three_letters_read_with_confidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, confidence: float, found: bool
) -> None:
    program(tmp_path, monkeypatch, f"cat >/dev/null; printf 'level\\n%s\\n' '{row(confidence, word)}'")
    assert finds_text(BLACK) is found


def test_the_picture_goes_in_enlarged_and_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://example.org")
    program(tmp_path, monkeypatch, f"cat >{tmp_path}/in; env >{tmp_path}/env; echo $* >{tmp_path}/arguments")
    assert finds_text(np.full((30, 20, 3), 200, dtype=np.uint8)) is False
    assert (tmp_path / "in").read_bytes() == b"P5 40 60 255\n" + b"\xc8" * 2400
    assert "proxy" not in (tmp_path / "env").read_text()
    assert (tmp_path / "arguments").read_text() == "stdin stdout --psm 11 tsv\n"


def test_a_reader_that_fails_or_hangs_counts_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "exit 1")
    assert finds_text(BLACK)
    program(tmp_path, monkeypatch, "exec sleep 60")
    begin = time.monotonic()
    assert finds_text(BLACK, timeout_s=0.3)
    assert time.monotonic() - begin < 20


def test_without_tesseract_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burned_in, "_PATH", str(tmp_path))
    assert "apt-get install tesseract-ocr" in str(cannot_read_text())
    with pytest.raises(ValueError, match="not installed"):
        finds_text(BLACK)


@pytest.mark.slow
def test_burned_in_text_of_real_ultrasound_is_found() -> None:
    need("tesseract")
    missed = [name for name in BURNED_IN if not finds_text(render_frames(real_file(name), (0,))[0][0])]
    assert not missed


@pytest.mark.slow
def test_anatomy_is_not_read_as_text() -> None:
    need("tesseract")
    looked_at, wrong = 0, []
    for path in real_files():
        with quiet_library():
            modality = pydicom.dcmread(path, stop_before_pixels=True, force=True).get("Modality")
        if modality not in ("CR", "CT", "MR", "NM") or "dicomdirtests" in path.parts:  # those are icons of 16 x 16
            continue
        try:
            ((picture, _),) = render_frames(path, (0,))
        except RefusedItemError:
            continue
        looked_at += 1
        if looked_at > 32:  # tesseract takes seconds for each
            break
        wrong += [path.name] if finds_text(picture) else []
    assert looked_at >= 30 and not wrong


@pytest.mark.slow
def test_a_name_on_a_chest_radiograph_is_found() -> None:
    need("tesseract")
    ((chest, _),) = render_frames(real_file("RG1_UNCR.dcm"), (0,))
    assert not finds_text(chest)
    for place, ink in (((40, 60), (255, 255, 255)), ((1200, 1850), (0, 0, 0))):  # white on dark, black on bright
        image = Image.fromarray(chest)
        ImageDraw.Draw(image).text(place, "DOE JOHN 1961-03-02", fill=ink, font=ImageFont.load_default(size=24))
        assert finds_text(np.asarray(image)), place
