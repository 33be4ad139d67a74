"""The header pass: which files are pictures of a patient that can be decoded, and what their headers say."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGExtended12Bit, JPEGLosslessSV1

from site_client.imaging import decoders
from site_client.imaging.header_pass import read_header, read_syntax
from site_client.imaging.sop_classes import ACCEPTED
from site_client.records import REASONS, RefusedItemError
from tests.site_client.fuzz_corpus import saved, small

REAL = Path(pydicom.__file__).parent / "data" / "test_files"
STORAGE = "1.2.840.10008.5.1.4.1.1."
CT, US, PHOTOGRAPH = STORAGE + "2", STORAGE + "6.1", STORAGE + "77.1.4"


def image(**elements: object) -> Dataset:
    dataset = small()
    dataset.SOPClassUID, dataset.Modality, dataset.ImageType = CT, "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def header(folder: Path, dataset: Dataset):  # type: ignore[no-untyped-def]
    path = folder / "image.dcm"
    path.write_bytes(saved(dataset))
    return read_header(path)


def refusal(folder: Path, dataset: Dataset) -> str:
    with pytest.raises(RefusedItemError) as caught:
        header(folder, dataset)
    return caught.value.code


def test_a_real_ct_slice() -> None:
    found = read_header(REAL / "CT_small.dcm")
    assert (found.modality, found.sop_class, found.rows, found.columns, found.frames) == ("CT", CT, 128, 128, 1)
    assert found.patient_id == "1CT1" and found.names == ("CompressedSamples^CT1",)
    assert found.dates == ("20040119", "19970430") and found.identifiers[0] == "1CT1"
    assert found.study_uid and found.series_uid and found.instance_number == 1 and not found.suspect
    assert found.position == pytest.approx(-75.699997)  # axial: the third coordinate of ImagePositionPatient


def test_names_of_every_alphabet_are_decoded() -> None:
    folder = REAL.parent / "charset_files"
    assert read_header(folder / "chrH31.dcm").names[0] == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert read_header(folder / "chrRuss.dcm").names[0] == "Люкceмбypг"
    assert read_header(folder / "chrX2.dcm").names[0] == "Wang^XiaoDong=王^小东"


def test_everything_that_a_text_must_not_hold_is_collected(tmp_path: Path) -> None:
    found = header(tmp_path, image(
        PatientName="Doe^Jane", OtherPatientNames=["Roe^Jane", "Doe^Jane"], ReferringPhysicianName="House^G",
        PerformingPhysicianName="Grey^M", OperatorsName=["Op^One", "Op^Two"], OtherPatientIDs=["A-1", "A-2"],
        AccessionNumber="ACC1", StudyID="S1", PatientBirthDate="19500102", StudyDate="2020.03.04",
        SeriesDate="20200305", AcquisitionDate="", ContentDate="unknown", IssuerOfPatientID=" HOSPITAL "))
    assert set(found.names) == {"Doe^Jane", "Roe^Jane", "House^G", "Grey^M", "Op^One", "Op^Two"}
    assert set(found.identifiers) == {"FUZZ-1", "A-1", "A-2", "ACC1", "S1"} and found.accession == "ACC1"
    assert set(found.dates) == {"19500102", "20200304", "20200305"} and found.issuer == "HOSPITAL"
    assert "Doe" not in repr(found) and "FUZZ" not in repr(found)


def test_control_characters_do_not_get_through(tmp_path: Path) -> None:
    assert header(tmp_path, image(PatientID="A\x1b[31mB\x00C")).patient_id == "A [31mB C"


@pytest.mark.parametrize(("kept", "uid"), [
    *((True, STORAGE + suffix) for suffix in ("1", "1.1", "1.1.1", "1.2", "2", "2.1", "3.1", "4", "4.1", "6.1", "7",
                                              "7.4", "12.1", "12.2", "77.1.4", "77.1.7")),
    *((False, STORAGE + suffix) for suffix in ("66.4", "481.2", "481.3", "88.33", "11.1", "9.1.1", "104.1", "20", "128",
                                               "77.1.6", "77.1.4.1", "66"))])
def test_the_list_of_sop_classes(tmp_path: Path, kept: bool, uid: str) -> None:
    if kept:
        assert header(tmp_path, image(SOPClassUID=uid)).sop_class == uid and uid in ACCEPTED
    else:
        assert refusal(tmp_path, image(SOPClassUID=uid)) == "sop-class"


@pytest.mark.parametrize(("elements", "code"), [
    ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
    ({"PatientID": ""}, "patient-missing"), ({"PatientID": "ANONYMOUS"}, "patient-dummy"),
    ({"Rows": 0}, "image-size"), ({"Rows": 16_385}, "image-size"), ({"Rows": 16_384, "Columns": 16_384}, "image-size"),
    ({"BitsAllocated": 12}, "pixels-described-badly"), ({"BitsStored": 0}, "pixels-described-badly"),
    ({"PhotometricInterpretation": "CMYK"}, "pixels-described-badly"),
    ({"PhotometricInterpretation": "RGB"}, "pixels-described-badly"),
    ({"PixelRepresentation": 2}, "pixels-described-badly"), ({"SamplesPerPixel": 3}, "pixels-described-badly"),
    ({"NumberOfFrames": 0}, "frames-malformed"), ({"NumberOfFrames": 2}, "pixels-truncated"),
    ({"PatientName": "x" * 2000}, "dicom-unreadable"), ({"OtherPatientIDs": ["x"] * 65}, "dicom-unreadable")])
def test_what_is_refused(tmp_path: Path, elements: dict[str, object], code: str) -> None:
    assert refusal(tmp_path, image(**elements)) == code and code in REASONS


def test_frames_that_the_file_holds(tmp_path: Path) -> None:
    dataset = image(NumberOfFrames=3)
    dataset.PixelData = dataset.PixelData * 3
    assert header(tmp_path, dataset).frames == 3
    assert header(tmp_path, image(NumberOfFrames="")).frames == 1


@pytest.mark.parametrize(("name", "syntax"), [
    ("MR_small_implicit.dcm", ImplicitVRLittleEndian), ("MR_small_bigendian.dcm", ExplicitVRBigEndian)])
def test_other_uncompressed_syntaxes(name: str, syntax: str) -> None:
    found, little = read_header(REAL / name), read_header(REAL / "MR_small.dcm")
    assert found.transfer_syntax == syntax and little.transfer_syntax != syntax
    assert replace(found, transfer_syntax="", sop_uid="") == replace(little, transfer_syntax="", sop_uid="")


def test_a_syntax_without_a_decoder_and_one_of_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = image(PixelData=encapsulate([bytes(64)]))
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    assert header(tmp_path, dataset).transfer_syntax == JPEGLosslessSV1
    monkeypatch.setattr(decoders, "installed", lambda plugin: plugin not in ("gdcm", "libjpeg"))
    assert refusal(tmp_path, dataset) == "decoder-missing"
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    assert refusal(tmp_path, dataset) == "decoder-missing"  # 16 bits
    assert read_syntax(tmp_path / "image.dcm") == (JPEGExtended12Bit, 16)
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    assert refusal(tmp_path, dataset) == "syntax-unknown"


@pytest.mark.parametrize(("elements", "suspect"), [
    ({}, False), ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}, True),
    ({"ImageType": ["DERIVED", "PRIMARY"]}, False), ({"BurnedInAnnotation": "YES"}, True),
    ({"SOPClassUID": US, "Modality": "US"}, True), ({"SOPClassUID": US, "BurnedInAnnotation": "NO"}, True),
    ({"Modality": "OT"}, True), ({"SOPClassUID": STORAGE + "7"}, True), ({"SOPClassUID": STORAGE + "12.1"}, True),
    ({"SOPClassUID": PHOTOGRAPH, "Modality": "XC", "ImageType": ["DERIVED", "SECONDARY"]}, False),
    ({"SOPClassUID": PHOTOGRAPH, "Modality": "OT"}, False),
    ({"SOPClassUID": PHOTOGRAPH, "BurnedInAnnotation": "YES"}, True)])
def test_who_is_suspect_of_text_in_the_pixels(tmp_path: Path, elements: dict[str, object], suspect: bool) -> None:
    assert header(tmp_path, image(**elements)).suspect is suspect


def test_the_position_is_along_the_normal(tmp_path: Path) -> None:
    sagittal = image(ImagePositionPatient=[7.5, 1, 2], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    assert header(tmp_path, sagittal).position == pytest.approx(-7.5)
    assert math.isnan(header(tmp_path, image(ImagePositionPatient=[1, 2], ImageOrientationPatient=None)).position)
