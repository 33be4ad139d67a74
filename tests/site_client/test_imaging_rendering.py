"""A file in, pictures or one reason out: bounds, kinds of pixels, frames by number, damage."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from site_client.imaging import rendering
from site_client.imaging.rendering import render_frames
from site_client.records import RefusedItemError
from site_client.sources.dicom import quiet_library
from tests.site_client.real_dicom import real_file

REFUSED = {
    "JPEG-lossy.dcm": "pixels-undecodable", "JPEG2000-embedded-sequence-delimiter.dcm": "pixels-undecodable",
    "SC_rgb_jpeg.dcm": "dicom-unreadable", "MR_truncated.dcm": "pixels-truncated", "badVR.dcm": "frame-count",
    "OT-PAL-8-face.dcm": "dicom-unreadable", "nested_priv_SQ.dcm": "image-size", "rtplan.dcm": "image-size",
    "no_meta.dcm": "dicom-unreadable", "ExplVR_LitEndNoMeta.dcm": "dicom-unreadable",
}  # fmt: skip


def written(path: Path, pixels: np.ndarray, **changes: Any) -> Path:
    """A file of these pixels, (frames,) rows, columns (, 3), with other elements; None leaves one out."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    made.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    colour = pixels.shape[-1] == 3
    made.Rows, made.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(pixels.dtype.kind == "i")
    body = pixels.tobytes()
    made.PixelData = body + bytes(len(body) % 2)
    made["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in changes.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    made.save_as(path, enforce_file_format=True)
    return path


def reason(path: Path, frame: int = 0, **options: Any) -> str:
    with pytest.raises(RefusedItemError) as caught:
        render_frames(path, (frame,), **options)
    assert caught.value.__cause__ is None
    return caught.value.code


GREY = np.array([[0, 1], [2, 3], [4, 5]], dtype="<u2")
WINDOW = {"WindowCenter": 3, "WindowWidth": 6}
STEPS = [0, 51, 102, 153, 204, 255]


def levels(path: Path, frame: int = 0) -> list[int]:
    ((picture, _),) = render_frames(path, (frame,))
    assert picture.dtype == np.uint8 and picture.ndim == 3
    return picture[..., 0].ravel().tolist()


@pytest.mark.parametrize("name", REFUSED)
def test_real_files_that_cannot_be_shown(name: str) -> None:
    assert reason(real_file(name)) == REFUSED[name]


def test_files_that_are_no_images(tmp_path: Path) -> None:
    assert reason(tmp_path / "nowhere") == "file-not-readable"
    assert reason(tmp_path) == "file-not-readable"
    (tmp_path / "text").write_text("no DICOM" * 100)
    assert reason(tmp_path / "text") == "dicom-unreadable"


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"Rows": None}, "image-size"), ({"Rows": 0}, "image-size"), ({"Rows": 65535, "Columns": 65535}, "image-size"),
     ({"Rows": 4}, "pixels-truncated"), ({"NumberOfFrames": 0}, ""), ({"NumberOfFrames": -1}, "frame-count"),
     ({"SamplesPerPixel": 4}, "pixel-kind"), ({"SamplesPerPixel": None}, "pixel-kind"),
     ({"PhotometricInterpretation": "RGB"}, "pixel-kind"), ({"PhotometricInterpretation": "HSV"}, "pixel-kind"),
     ({"PhotometricInterpretation": None}, "pixel-kind"), ({"BitsAllocated": 64}, "pixel-kind"),
     ({"BitsAllocated": 12}, "pixel-kind"), ({"BitsStored": 17}, "pixel-kind"), ({"BitsStored": 0}, "pixel-kind"),
     ({"BitsStored": 12}, "pixel-kind"), ({"HighBit": 14}, "pixel-kind"), ({"PixelRepresentation": 2}, "pixel-kind"),
     ({"PixelData": None}, "pixels-truncated"), ({"PixelData": b"\0\0"}, "pixels-truncated"), ({"HighBit": None}, "")],
)  # fmt: skip
def test_headers_are_checked(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    path = written(tmp_path / "a.dcm", GREY, **(WINDOW | changes))
    if code:
        assert reason(path) == code
    else:
        assert levels(path) == STEPS


def test_a_file_in_another_syntax_than_it_says_is_refused(tmp_path: Path) -> None:
    dataset, parts = pydicom.dcmread(written(tmp_path / "a.dcm", GREY, **WINDOW)), []
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / "b.dcm", enforce_file_format=True, implicit_vr=syntax.is_implicit_VR)
        assert levels(tmp_path / "b.dcm") == STEPS
        data = (tmp_path / "b.dcm").read_bytes()
        body = 144 + int.from_bytes(data[140:144], "little")  # after the preamble and group 2
        parts.append((data[:body], data[body:]))
    for meta, body in ((parts[0][0], parts[1][1]), (parts[1][0], parts[0][1])):
        (tmp_path / "c.dcm").write_bytes(meta + body)
        assert reason(tmp_path / "c.dcm") == "dicom-unreadable"


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", GREY, BitsAllocated=32, BitsStored=32, HighBit=31, PixelData=None,
                   FloatPixelData=np.zeros(6, "<f4").tobytes())  # fmt: skip
    assert reason(path) == "pixel-kind"


def test_nothing_is_decoded_when_the_header_asks_for_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decodes(*args: object, **options: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(rendering, "pixel_array", decodes)
    path = written(tmp_path / "a.dcm", GREY, Rows=30000, Columns=30000)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([b"\0" * 64])
    dataset.save_as(path, enforce_file_format=True)
    assert reason(path) == "image-size"


def test_an_array_of_another_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "pixel_array", lambda *args, **options: np.zeros((20, 30), np.uint16))
    assert reason(written(tmp_path / "a.dcm", GREY)) == "pixels-undecodable"


def test_frames_are_read_by_number_and_one_at_a_time(tmp_path: Path) -> None:
    frames = np.stack([GREY, GREY[::-1], np.zeros_like(GREY)])
    path = written(tmp_path / "a.dcm", frames, NumberOfFrames=3, **WINDOW)
    turned = STEPS[4:] + STEPS[2:4] + STEPS[:2]
    pictures = [picture[..., 0].ravel().tolist() for picture, _ in render_frames(path, (1, 0, 1))]
    assert pictures == [turned, STEPS, turned]
    assert render_frames(path, ()) == []
    for missing in (3, -1):
        assert reason(path, missing) in ("frame-missing", "pixels-truncated")
    # a header that announces fewer frames than there are is the bound; one that announces more is refused
    assert reason(written(tmp_path / "b.dcm", frames, NumberOfFrames=1), 1) == "frame-missing"
    assert reason(written(tmp_path / "c.dcm", frames, NumberOfFrames=9), 8) == "pixels-truncated"


def test_compressed_frames_that_are_not_there(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(real_file("emri_small_jpeg_2k_lossless.dcm"))
    dataset.NumberOfFrames = 30
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert reason(tmp_path / "a.dcm", 29) == "pixels-undecodable"
    assert render_frames(tmp_path / "a.dcm", (9,))[0][0].shape == (64, 64, 3)


def test_bits_above_the_stored_ones_are_dropped(tmp_path: Path) -> None:
    twelve = {"BitsStored": 12, "HighBit": 11}
    assert levels(written(tmp_path / "a.dcm", GREY | 0xF000, **twelve, **WINDOW)) == STEPS
    signed = (GREY.astype("<i2") - 3) & 0x0FFF  # two's complement of 12 bits in 16
    path = written(tmp_path / "b.dcm", signed.astype("<i2"), **twelve, WindowCenter=0, WindowWidth=6)
    assert levels(path) == STEPS


def test_colour_of_other_depths_is_scaled_by_the_stored_bits(tmp_path: Path) -> None:
    pixels = np.array([[[0, 2048, 4095], [1, 8, 16]]], dtype="<u2")
    path = written(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=11)
    ((picture, how),) = render_frames(path, (0,))
    assert picture.tolist() == [[[0, 128, 255], [0, 0, 1]]] and how == "colours of the file"


def test_planes_by_colour(tmp_path: Path) -> None:
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()
    path = written(tmp_path / "a.dcm", pixels, PlanarConfiguration=1, PixelData=planes)
    assert np.array_equal(render_frames(path, (0,))[0][0], pixels)


def test_ybr_becomes_rgb(tmp_path: Path) -> None:
    pixels = np.array([[[128, 128, 128], [76, 85, 255]]], dtype=np.uint8)  # grey; red (C.7.6.3.1.2)
    ((picture, _),) = render_frames(written(tmp_path / "a.dcm", pixels, PhotometricInterpretation="YBR_FULL"), (0,))
    assert np.abs(picture.astype(int) - [[[128, 128, 128], [254, 0, 0]]]).max() <= 1
    for photometric in ("YBR_RCT", "YBR_ICT", "YBR_PARTIAL_420"):
        path = written(tmp_path / "b.dcm", pixels, PhotometricInterpretation=photometric)
        assert reason(path) == "pixel-kind"  # without JPEG 2000 these say nothing


def test_a_deflated_file_is_inflated_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert render_frames(real_file("image_dfl.dcm"), (0,))[0][0].shape == (512, 512, 3)
    path = written(tmp_path / "a.dcm", np.zeros((2000, 4000), np.uint8))
    data = path.read_bytes()
    begin = data.index(b"\x28\x00\x02\x00")  # SamplesPerPixel is the first element of this data set
    meta = data[:begin].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    deflater = zlib.compressobj(9, wbits=-15)
    body = deflater.compress(data[begin:]) + deflater.flush()
    # two bytes more in the syntax: its own length, and the group's
    at = meta.index(b"1.2.840.10008.1.2.1.99")
    meta = meta[: at - 2] + b"\x16\0" + meta[at:]
    meta = meta[:140] + (int.from_bytes(meta[140:144], "little") + 2).to_bytes(4, "little") + meta[144:]
    path.write_bytes(meta + body)
    assert len(body) < 10_000 and levels(path) == [0] * 8_000_000
    path.write_bytes(meta + body[:-20])
    assert reason(path) == "pixels-truncated"
    monkeypatch.setattr(rendering, "MAX_INFLATED_BYTES", 1 << 20)
    path.write_bytes(meta + body)
    assert reason(path) == "file-too-large"


def test_decoders_that_are_missing_or_panic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """As Rust's bindings raise it."""

    def panics(*args: object, **options: object) -> None:
        raise PanicException

    path = real_file("MR_small_RLE.dcm")
    assert reason(path, plugin="no such decoder") == "pixels-undecodable"
    assert [how for _, how in render_frames(path, (0,), plugin="pydicom")] == ["window 600/1600 of the file"]
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2: no pydicom decoder at all
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert reason(tmp_path / "a.dcm") == "decoder-missing"
    monkeypatch.setattr(rendering, "pixel_array", panics)
    assert reason(path) == "pixels-undecodable"


def test_memory_that_runs_out_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(rendering, "pixel_array", full)
    with pytest.raises(MemoryError):
        render_frames(real_file("MR_small.dcm"), (0,))


def test_memory_is_a_small_multiple_of_one_frame(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 4096, (6, 2000, 2000), dtype=np.uint16)
    path = written(tmp_path / "a.dcm", frames, NumberOfFrames=6, PixelPaddingValue=0)
    frame_bytes, picture_bytes = frames[0].nbytes, 3 * frames[0].size
    tracemalloc.start()
    try:
        render_frames(path, (5,))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * frame_bytes + picture_bytes + (50 << 20)


@pytest.mark.parametrize("name", ["CT_small.dcm", "eCT_Supplemental.dcm", "examples_palette.dcm"])
def test_damage_anywhere_is_a_reason_or_a_picture(name: str, tmp_path: Path, caplog: Any, recwarn: Any) -> None:
    body = real_file(name).read_bytes()
    with quiet_library():
        header = len(body) - len(pydicom.dcmread(real_file(name)).PixelData)
    rng = np.random.default_rng(1)
    codes = set()
    for _ in range(60):
        damaged = bytearray(body)
        for place in rng.integers(132, header, 6):
            damaged[place] = rng.integers(256)
        (tmp_path / "x.dcm").write_bytes(damaged)
        try:
            assert render_frames(tmp_path / "x.dcm", (0,))[0][0].dtype == np.uint8
        except RefusedItemError as refusal:
            codes.add(refusal.code)
    assert codes and not caplog.records and not recwarn.list


def test_the_child_process_needs_no_torch() -> None:
    code = "import sys, site_client.imaging.rendering; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
