"""One file in, pixels or a reason out; never another exception, never a value of the file in a message."""

from __future__ import annotations

import io
import os
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless

from simulations.dicom_writer import write_photograph
from site_client.records import RefusedItemError
from site_client.sources import dicom
from site_client.sources.dicom import quiet_library, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)  # odd length: carries a padding byte


@pytest.fixture
def photo(tmp_path) -> Path:
    uid = write_photograph(tmp_path, PIXELS, patient_id="Derm 1", study="S1", instance="i1", number=1)
    return tmp_path / f"{uid}.dcm"


def reason(path: Path) -> str:
    with quiet_library(), pytest.raises(RefusedItemError) as caught:
        read_image(path)
    assert caught.value.__cause__ is None
    return caught.value.code


def rewrite(path: Path, **changes: object) -> Path:
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=False)
    return path


def test_pixels_and_identity_come_back(photo):
    image = read_image(photo)
    assert np.array_equal(image.pixels, PIXELS)
    assert image.pixels.dtype == np.uint8
    assert not image.pixels.flags.writeable
    assert (image.uid, image.patient_id, image.issuer) == (photo.stem, "DERM 1", "")
    assert "DERM" not in repr(image)


def test_planes_by_colour_are_put_in_order(photo):
    body = np.ascontiguousarray(PIXELS.transpose(2, 0, 1)).tobytes() + b"\0"
    image = read_image(rewrite(photo, PlanarConfiguration=1, PixelData=body))
    assert np.array_equal(image.pixels, PIXELS)
    assert not image.pixels.flags.writeable


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "sop-class"),
        ({"SOPClassUID": None}, "sop-class"),
        ({"PatientID": ""}, "patient-missing"),
        ({"PatientID": None}, "patient-missing"),
        ({"PatientID": ["A", "B"]}, "patient-missing"),
        ({"PatientID": "ANON"}, "patient-dummy"),
        ({"SOPInstanceUID": "1.2.3"}, "identifier-missing"),
        ({"SOPInstanceUID": None}, "identifier-missing"),
        ({"Rows": None}, "image-size"),
        ({"Rows": 0}, "image-size"),
        ({"Columns": 60000}, "image-size"),
        ({"Rows": 8000, "Columns": 8000}, "pixels-truncated"),
        ({"SamplesPerPixel": 1}, "image-kind"),
        ({"PhotometricInterpretation": "MONOCHROME2"}, "image-kind"),
        ({"PhotometricInterpretation": None}, "image-kind"),
        ({"BitsAllocated": 16}, "image-kind"),
        ({"PixelRepresentation": 1}, "image-kind"),
        ({"NumberOfFrames": 30}, "image-kind"),
        ({"PixelData": b"\1\2"}, "pixels-truncated"),
        ({"PixelData": None}, "pixels-truncated"),
    ],
)
def test_the_header_gate_names_its_reason(photo, changes, code):
    assert reason(rewrite(photo, **changes)) == code


def test_compressed_pixels_are_refused_before_decoding(photo):
    dataset = pydicom.dcmread(photo)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    body = io.BytesIO()
    dataset.PixelData = pydicom.encaps.encapsulate([b"not a picture at all"])
    dataset.save_as(body, enforce_file_format=True)
    photo.write_bytes(body.getvalue())
    assert reason(photo) == "transfer-syntax"


def test_a_deflated_file_is_refused_without_inflating_it(photo, monkeypatch):
    dataset = pydicom.dcmread(photo)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    dataset.save_as(photo, enforce_file_format=True)

    def inflates(*args, **kwargs):
        raise AssertionError("inflated")

    monkeypatch.setattr(zlib, "decompress", inflates)
    monkeypatch.setattr(dicom, "dcmread", inflates)
    assert reason(photo) == "transfer-syntax"


def test_a_large_file_is_refused_unread(tmp_path):
    path = tmp_path / "large.dcm"
    with path.open("wb") as stream:
        stream.truncate(dicom.MAX_FILE_BYTES + 1)
    assert reason(path) == "file-too-large"


def test_links_pipes_and_missing_files_are_refused(photo, tmp_path):
    link, pipe = tmp_path / "link.dcm", tmp_path / "pipe.dcm"
    link.symlink_to(photo)
    os.mkfifo(pipe)
    assert [reason(path) for path in (link, pipe, tmp_path / "none.dcm")] == ["file-not-readable"] * 3


def test_memory_that_runs_out_ends_the_reading_and_refuses_nobody(photo, monkeypatch):
    def full(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(dicom, "dcmread", full)
    with quiet_library(), pytest.raises(MemoryError):
        read_image(photo)


def test_a_made_up_length_asks_for_no_more_memory_than_a_file_may_have(photo):
    body = photo.read_bytes()
    claims_4_gib = b"\x02\x00\x02\x01OB\x00\x00\xf0\xff\xff\xff"  # (0002,0102), explicit little endian
    group_length = body[132:144]
    photo.write_bytes(body[:132] + group_length + claims_4_gib + body[144:])
    tracemalloc.start()
    try:
        assert reason(photo) == "dicom-unreadable"
        assert tracemalloc.get_traced_memory()[1] < 2 * dicom.MAX_FILE_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"DICM", b"hello" * 100, bytes(128) + b"DICM", bytes(128) + b"DICM\x02\x00"])
def test_files_that_are_no_dicom_are_refused(tmp_path, content):
    path = tmp_path / "file.dcm"
    path.write_bytes(content)
    assert reason(path) in ("dicom-unreadable", "transfer-syntax")


def test_truncated_at_any_length_is_a_reason(photo):
    body = photo.read_bytes()
    for length in range(0, len(body), 5):
        photo.write_bytes(body[:length])
        assert reason(photo)


def test_damage_anywhere_is_a_reason_or_an_image(photo, caplog, recwarn):
    body = photo.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        damaged = bytearray(body)
        for place in rng.integers(128, len(body), 4):
            damaged[place] = rng.integers(256)
        photo.write_bytes(damaged)
        try:
            with quiet_library():
                image = read_image(photo)
            assert image.pixels.ndim == 3
        except RefusedItemError:
            refused += 1
    assert refused > 50
    assert not caplog.records
    assert not recwarn.list
