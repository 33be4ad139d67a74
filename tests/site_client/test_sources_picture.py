"""Pictures at the operator's desk: what a viewer would show, or one sentence."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from simulations.dicom_writer import write_photograph
from site_client.sources.dicom import quiet_library, read_image
from site_client.sources.picture import read_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)


def sample(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert found is not None
    return Path(str(found))


def refusal(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        read_picture(path)
    assert str(caught.value).startswith(f"image {path} ") and "\n" not in str(caught.value)
    return str(caught.value)


# --- bitmaps


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_a_png_has_the_colours_it_shows(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB"))) and picture.how == ""
    assert picture.pixels.dtype == np.uint8 and picture.pixels.shape == (20, 31, 3)


def test_a_jpeg_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    smooth = np.zeros((16, 32, 3), np.uint8)
    smooth[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    Image.fromarray(smooth).save(tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = read_picture(tmp_path / "a.jpg").pixels
    assert pixels.shape == (32, 16, 3) and pixels[:14].mean() < 5 and pixels[18:].mean() > 250


def test_a_link_that_the_operator_named_is_followed(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "link").pixels, PIXELS)


def test_files_that_are_no_usable_bitmap(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere.png")
    assert "regular file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "regular file" in refusal(tmp_path / "pipe")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert refusal(tmp_path / "round")
    (tmp_path / "text.png").write_text("not an image")
    assert "PNG, JPEG or DICOM" in refusal(tmp_path / "text.png")
    Image.fromarray(PIXELS).save(tmp_path / "a.gif")
    assert "PNG, JPEG or DICOM" in refusal(tmp_path / "a.gif")
    Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 16).save(tmp_path / "deep.png")
    assert "more than 8 bits" in refusal(tmp_path / "deep.png")
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    assert "animated" in refusal(tmp_path / "moving.png")
    glass = Image.fromarray(PIXELS).convert("RGBA")
    glass.putalpha(100)
    glass.save(tmp_path / "glass.png")
    assert "transparent" in refusal(tmp_path / "glass.png")
    data = io.BytesIO()
    Image.fromarray(PIXELS).save(data, "PNG")
    (tmp_path / "cut.png").write_bytes(data.getvalue()[:-400])
    assert "damaged" in refusal(tmp_path / "cut.png")


@pytest.mark.parametrize("side", [8193, 60_000, 2**31 - 1])
def test_a_huge_bitmap_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000), 9)
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    tracemalloc.start()
    assert "longer than 8192" in refusal(tmp_path / "bomb.png")
    assert tracemalloc.get_traced_memory()[1] < 80 << 20  # the buffer for a file; the pixels would take 200 MB
    tracemalloc.stop()


def test_a_file_that_is_too_long(tmp_path: Path) -> None:
    with (tmp_path / "long.png").open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert "larger than 64 MiB" in refusal(tmp_path / "long.png")


# --- DICOM


def test_a_photograph_is_what_training_reads(tmp_path: Path) -> None:
    uid = write_photograph(tmp_path, PIXELS, patient_id="P1", study="S1", instance="i1", number=1)
    picture = read_picture(tmp_path / f"{uid}.dcm")
    assert np.array_equal(picture.pixels, read_image(tmp_path / f"{uid}.dcm").pixels) and picture.how == ""


def test_colour_ultrasound_of_pydicom() -> None:
    path = sample("examples_rgb_color.dcm")
    assert np.array_equal(read_picture(path).pixels, pydicom.dcmread(path).pixel_array)


@pytest.mark.parametrize("name", ["MR_small.dcm", "examples_overlay.dcm", "MR_small_implicit.dcm"])
def test_a_window_shows_what_pydicom_shows(name: str) -> None:
    dataset = pydicom.dcmread(sample(name))
    picture = read_picture(sample(name))
    with quiet_library():
        values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset, prefer_lut=False)
    # pydicom's range of results is that of the stored bits, in modality units
    low, high = (-(2 ** (dataset.BitsStored - 1)), 2 ** (dataset.BitsStored - 1) - 1) \
        if dataset.PixelRepresentation else (0, 2**dataset.BitsStored - 1)  # fmt: skip
    expected = (values - low) / (high - low) * 255
    assert np.abs(picture.pixels[:, :, 0] - expected).max() <= 1 and 10 < expected.mean() < 245
    assert (picture.pixels == picture.pixels[:, :, :1]).all()
    assert picture.how.startswith("window ")


def test_without_a_window_the_values_fill_the_range() -> None:
    path = sample("CT_small.dcm")
    picture = read_picture(path)
    values = pydicom.dcmread(path).pixel_array.astype(float)
    expected = (values - values.min()) / (values.max() - values.min()) * 255
    assert np.abs(picture.pixels[:, :, 0] - expected).max() <= 1 and "names no window" in picture.how


def grey(tmp_path: Path, stored: np.ndarray, **changes: Any) -> Path:
    """CT_small with other pixels and elements."""
    dataset = pydicom.dcmread(sample("CT_small.dcm"))
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelData = stored.tobytes()
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.RescaleIntercept = 0
    for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    if "PixelPaddingValue" in changes:
        dataset["PixelPaddingValue"].VR = "SS"
    dataset.save_as(tmp_path / "grey.dcm", enforce_file_format=False)
    return tmp_path / "grey.dcm"


RAMP = np.arange(-8, 8, dtype="<i2").reshape(4, 4) * 100


def shown(path: Path) -> list[int]:
    return [int(value) for value in read_picture(path).pixels[:, :, 0].ravel()]


def test_windows_by_the_formulas_of_the_standard(tmp_path: Path) -> None:
    # PS3.3 C.11.2.1.2.1, example: center 2048, width 4096 maps 0 to black and 4095 to white
    wide = np.array([[0, 2047], [2048, 4095]], dtype="<i2")
    assert shown(grey(tmp_path, wide, WindowCenter=2048, WindowWidth=4096)) == [0, 127, 128, 255]
    step = np.array([[99, 100], [101, 102]], dtype="<i2")
    assert shown(grey(tmp_path, step, WindowCenter=101, WindowWidth=1)) == [0, 0, 255, 255]
    assert shown(grey(tmp_path, step, WindowCenter=100, WindowWidth=4, VOILUTFunction="LINEAR_EXACT")) \
        == [64, 128, 191, 255]  # fmt: skip
    sigmoid = shown(grey(tmp_path, step, WindowCenter=101, WindowWidth=4, VOILUTFunction="SIGMOID"))
    assert sigmoid == [round(255 / (1 + np.exp(-value))) for value in (-2, -1, 0, 1)]


def test_rescaling_comes_before_the_window(tmp_path: Path) -> None:
    plain = shown(grey(tmp_path, RAMP, WindowCenter=0, WindowWidth=1000))
    assert shown(grey(tmp_path, RAMP // 2 + 50, RescaleSlope=2, RescaleIntercept=-100,
                      WindowCenter=0, WindowWidth=1000)) == plain  # fmt: skip
    assert shown(grey(tmp_path, RAMP, WindowCenter=[0, 500], WindowWidth=[1000, 10])) == plain  # the first of two


def test_monochrome1_is_shown_inverted(tmp_path: Path) -> None:
    plain = shown(grey(tmp_path, RAMP, WindowCenter=0, WindowWidth=1000))
    inverse = shown(grey(tmp_path, RAMP, WindowCenter=0, WindowWidth=1000, PhotometricInterpretation="MONOCHROME1"))
    assert all(abs(a + b - 255) <= 1 for a, b in zip(plain, inverse, strict=True)) and plain != inverse
    assert "window" in read_picture(sample("dicomdirtests/77654033/CR1/6154")).how  # a real one


def test_padding_does_not_stretch_the_range(tmp_path: Path) -> None:
    padded = RAMP.copy()
    padded[0, 0] = -32000
    values = shown(grey(tmp_path, padded, PixelPaddingValue=-32000))
    assert values[0] == 0 and values[1] == 0 and values[-1] == 255 and values[8] > 100


def test_an_unusable_window_is_no_window(tmp_path: Path) -> None:
    plain = shown(grey(tmp_path, RAMP))
    for changes in ({"WindowCenter": 0, "WindowWidth": 0}, {"WindowCenter": 0}, {"WindowCenter": "", "WindowWidth": ""},
                    {"WindowCenter": 0, "WindowWidth": 10, "VOILUTFunction": "CUBIC"}):  # fmt: skip
        assert shown(grey(tmp_path, RAMP, **changes)) == plain


def test_a_lookup_table_is_applied(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 8], [10, 0, 255, 90]
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
    stored = np.array([[0, 1], [2, 3]], dtype="<u2")
    path = grey(tmp_path, stored, VOILUTSequence=[table])
    assert shown(path) == [10, 0, 255, 90] and read_picture(path).how == "lookup table of the file"


def test_bits_above_the_stored_ones_are_dropped(tmp_path: Path) -> None:
    stored = np.array([[0, 1], [2, 4095]], dtype="<u2")
    overlaid = stored | 0xF000
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "BitsStored": 12, "HighBit": 11}
    assert shown(grey(tmp_path, overlaid, **window)) == shown(grey(tmp_path, stored, **window)) == [0, 0, 0, 255]
    signed = np.array([[-2048, 0], [1, 2047]], dtype="<i2")
    masked = (signed & 0x0FFF).astype("<i2")
    window["WindowCenter"] = 0
    assert shown(grey(tmp_path, masked, **window)) == shown(grey(tmp_path, signed, **window)) == [0, 128, 128, 255]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("JPEG2000.dcm", "compressed"), ("MR_small_RLE.dcm", "compressed"), ("MR_small_bigendian.dcm", "big-endian"),
     ("image_dfl.dcm", "compressed"), ("rtdose.dcm", "not one frame"), ("examples_palette.dcm", "not one frame"),
     ("SC_ybr_full_422_uncompressed.dcm", "not one frame"), ("MR_truncated.dcm", "pixels have not the length"),
     ("liver_1frame.dcm", "not one frame"), ("rtstruct.dcm", "")],
)  # fmt: skip
def test_dicom_that_cannot_be_shown(name: str, expected: str) -> None:
    assert expected in refusal(sample(name))


def test_a_damaged_dicom_file_is_a_sentence_without_its_values(tmp_path: Path) -> None:
    data = bytearray(sample("CT_small.dcm").read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(data)
        for at in rng.integers(132, 2000, 3):
            broken[at] = rng.integers(0, 256)
        (tmp_path / "x.dcm").write_bytes(broken)
        try:
            assert read_picture(tmp_path / "x.dcm").pixels.dtype == np.uint8
        except ValueError as error:
            assert "CompressedSamples" not in str(error) and "\n" not in str(error)  # the patient's name


@pytest.mark.parametrize("slope", ["NaN", "1e39"])
def test_numbers_out_of_range_are_refused(tmp_path: Path, slope: str) -> None:
    with quiet_library():
        path = grey(tmp_path, RAMP)
        data = path.read_bytes()
        dataset = pydicom.dcmread(path)
        length = len(str(dataset.RescaleSlope)) + len(str(dataset.RescaleSlope)) % 2
        start = data.index(struct.pack("<HH", 0x0028, 0x1053) + b"DS")
        other = struct.pack("<H", 4) + slope.ljust(4).encode()
        path.write_bytes(data[: start + 6] + other + data[start + 8 + length :])
    assert refusal(path)
