"""The header pass: one DICOM file's elements before its pixels, checked; runs in the sandbox only.

A header can claim any length. No single read here goes beyond the file or `_MOST_VALUE_BYTES`, values that are not
wanted are skipped and not read, and reading ends before group 0029: memory stays small whatever the file says. A
deflated file is refused on its meta information, because the library inflates it whole before any limit could apply
(389 kB became 810 MB), and images are hardly ever deflated: refusing costs a hospital one conversion, a bounded
inflater would be code that parses hostile bytes.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag

from site_client.imaging.decoders import DEFLATED, NATIVE, SYNTAXES, plugin_for
from site_client.imaging.header import MOST_FRAMES, MOST_LIST, MOST_PIXELS, MOST_SIDE, MOST_TEXT, Header
from site_client.imaging.sop_classes import ACCEPTED, PHOTOGRAPHS, SUSPECT_CLASSES, SUSPECT_MODALITIES
from site_client.records import RefusedItemError, checked_patient_id

__all__ = ["open_regular", "read_header", "read_syntax"]

_MOST_VALUE_BYTES = 1 << 22
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_NAMES = (
    "PatientName", "OtherPatientNames", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName")
_IDENTIFIERS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID")
_DATES = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
_OTHERS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "IssuerOfPatientID", "Modality",
    "ImageType", "BurnedInAnnotation", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "Rows",
    "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "NumberOfFrames",
)  # fmt: skip
_TAGS = [BaseTag(tag_for_keyword(keyword)) for keyword in (*_NAMES, *_IDENTIFIERS, *_DATES, *_OTHERS)]
_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


class _BoundedFile(io.BufferedReader):
    """A file that never allocates more than it holds: a made-up length would otherwise ask for 4 GiB at once."""

    def __init__(self, raw: io.FileIO, size: int) -> None:
        super().__init__(raw)
        self.size = size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > 65_536:
            left = max(0, self.size - self.tell())
            size = left if size is None or size < 0 else min(size, left)
            if size > _MOST_VALUE_BYTES:
                raise RefusedItemError("dicom-unreadable")
        return super().read(size)


def open_regular(path: Path, most_bytes: int) -> _BoundedFile:
    """A regular file of at most that many bytes, open for reading; RefusedItemError for a link and all else."""
    try:
        # Not blocking, so that a pipe in the folder is refused and not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        raise RefusedItemError("file-not-readable") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
        os.close(descriptor)
        raise RefusedItemError("file-too-large" if stat.S_ISREG(status.st_mode) else "file-not-readable")
    return _BoundedFile(io.FileIO(descriptor), status.st_size)


def read_header(path: Path, most_bytes: int = 1 << 31) -> Header:
    """What one file says of itself. Raises RefusedItemError with the reason, or whatever the library raises."""
    with open_regular(path, most_bytes) as file:
        meta = _meta(file)
        syntax = str(meta.get("TransferSyntaxUID") or "")
        if syntax == DEFLATED:
            raise RefusedItemError("deflated")
        if not syntax:
            raise RefusedItemError("syntax-unknown")
        dataset = _elements(file, syntax)
        left = file.size - file.tell()
    _check_object(dataset, meta)
    frames = _frames(dataset)
    bits = _check_pixels(dataset)
    _check_syntax(syntax, bits)
    _check_room(dataset, syntax, frames, left)
    return _header(dataset, syntax, frames)


def read_syntax(path: Path, most_bytes: int = 1 << 31) -> tuple[str, int]:
    """(transfer syntax as in the file, bits stored): all that decides which decoder is needed. Bits are read where they
    matter alone, else 8. Raises like `read_header`."""
    with open_regular(path, most_bytes) as file:
        syntax = str(_meta(file).get("TransferSyntaxUID") or "")
        if syntax not in SYNTAXES or SYNTAXES[syntax].deep is None:
            return syntax, 8
        bits = _elements(file, syntax).get("BitsStored")
    return syntax, bits if isinstance(bits, int) else 8


def _meta(file: _BoundedFile) -> Dataset:
    """The file meta information (PS3.10 7.1); the file is left behind it."""
    read_preamble(file, False)  # raises when it is no DICOM file
    return read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)


def _elements(file: _BoundedFile, syntax: str) -> Dataset:
    return read_dataset(
        file, syntax == _IMPLICIT, syntax != _BIG_ENDIAN, stop_when=lambda tag, vr, length: tag >= 0x0029_0000,
        specific_tags=_TAGS)


# ------------------------------------------------------------------ checks


def _check_object(dataset: Dataset, meta: Dataset) -> None:
    """A picture of a patient who can be told apart, with an identifier that the file agrees with itself about."""
    if dataset.get("SOPClassUID") not in ACCEPTED:
        raise RefusedItemError("sop-class")
    uid = dataset.get("SOPInstanceUID")
    if not uid:
        raise RefusedItemError("identifier-missing")
    if uid != meta.get("MediaStorageSOPInstanceUID"):
        raise RefusedItemError("identifier-differs")
    checked_patient_id(dataset.get("PatientID"))
    if "LOCALIZER" in _texts(dataset, "ImageType")[2:3]:
        raise RefusedItemError("localizer")


def _frames(dataset: Dataset) -> int:
    value = dataset.get("NumberOfFrames")
    if value is None or value == "":
        return 1
    if not isinstance(value, int) or not 1 <= value <= MOST_FRAMES:
        raise RefusedItemError("frames-malformed")
    return int(value)


def _check_pixels(dataset: Dataset) -> int:
    """The image pixel module (PS3.3 C.7.6.3) describes pixels that can be shown; returns BitsStored."""
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not all(isinstance(side, int) and 1 <= side <= MOST_SIDE for side in (rows, columns)) \
            or rows * columns > MOST_PIXELS:
        raise RefusedItemError("image-size")
    allocated, stored = dataset.get("BitsAllocated"), dataset.get("BitsStored")
    samples, kind = dataset.get("SamplesPerPixel"), dataset.get("PhotometricInterpretation")
    if (samples, kind) not in {*((1, grey) for grey in _GREY), *((3, colour) for colour in _COLOUR)} \
            or allocated not in (8, 16, 32) or not isinstance(stored, int) or not 1 <= stored <= allocated \
            or dataset.get("PixelRepresentation") not in (0, 1):
        raise RefusedItemError("pixels-described-badly")
    return stored


def _check_syntax(syntax: str, bits_stored: int) -> None:
    if syntax not in SYNTAXES:
        raise RefusedItemError("syntax-unknown")
    if plugin_for(syntax, bits_stored) is None:
        raise RefusedItemError("decoder-missing")


def _check_room(dataset: Dataset, syntax: str, frames: int, left: int) -> None:
    """The file holds the bytes that its frames need: all of them, or 8 for the item of each compressed one (PS3.5
    A.4)."""
    if plugin_for(syntax) != NATIVE:
        if left < 8 * frames:
            raise RefusedItemError("frames-malformed")
        return
    samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else dataset.SamplesPerPixel
    if left < dataset.Rows * dataset.Columns * samples * (dataset.BitsAllocated // 8) * frames:
        raise RefusedItemError("pixels-truncated")


# ------------------------------------------------------------------ the header


def _header(dataset: Dataset, syntax: str, frames: int) -> Header:
    def one(keyword: str) -> str:
        return next(iter(_texts(dataset, keyword)), "")

    number = dataset.get("InstanceNumber")
    return Header(
        sop_uid=one("SOPInstanceUID"), study_uid=one("StudyInstanceUID"), series_uid=one("SeriesInstanceUID"),
        accession=one("AccessionNumber"), patient_id=one("PatientID"), issuer=one("IssuerOfPatientID"),
        names=_all(dataset, _NAMES), identifiers=_all(dataset, _IDENTIFIERS),
        dates=tuple(date for text in _all(dataset, _DATES) for date in _day(text)), sop_class=one("SOPClassUID"),
        modality=one("Modality"), transfer_syntax=syntax, rows=dataset.Rows, columns=dataset.Columns, frames=frames,
        instance_number=int(number) if isinstance(number, int) and abs(number) < 1 << 31 else 0,
        position=_position(dataset), suspect=_suspect(dataset))


def _texts(dataset: Dataset, keyword: str) -> list[str]:
    """Every value of an element as text, in the file's order, without control characters."""
    value: Any = dataset.get(keyword)
    if value is None or value == "":
        return []
    values = [str(value)] if isinstance(value, str) or not hasattr(value, "__iter__") else [str(one) for one in value]
    if hasattr(value, "components"):  # a person's name can be iterated, by character
        values = [str(value)]
    if len(values) > MOST_LIST or any(len(text) > MOST_TEXT for text in values):
        raise RefusedItemError("dicom-unreadable")
    clean = ("".join(letter if letter.isprintable() else " " for letter in text).strip() for text in values)
    return [text for text in clean if text]


def _all(dataset: Dataset, keywords: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(text for keyword in keywords for text in _texts(dataset, keyword)))
    if len(found) > MOST_LIST:
        raise RefusedItemError("dicom-unreadable")
    return found


def _day(text: str) -> Iterator[str]:
    """YYYYMMDD; also of the form with dots, which was in use until 1993 (PS3.5 6.2, DA)."""
    if match := re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", text, re.ASCII):
        yield "".join(match.groups())


def _position(dataset: Dataset) -> float:
    """Along the normal of the slice in mm (PS3.3 C.7.6.2.1.1); nan where the file does not say."""
    try:
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)
        a, b, c, d, e, f = (float(value) for value in dataset.ImageOrientationPatient)
    except (AttributeError, TypeError, ValueError):
        return math.nan
    along = x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d)
    return along if math.isfinite(along) else math.nan


def _suspect(dataset: Dataset) -> bool:
    """Text may be burned in. That the element is absent says nothing: no device seen sets it (PS3.3 C.7.6.1.1.5)."""
    if "YES" in _texts(dataset, "BurnedInAnnotation"):
        return True
    if dataset.SOPClassUID in PHOTOGRAPHS:
        return False
    return dataset.SOPClassUID in SUSPECT_CLASSES or not SUSPECT_MODALITIES.isdisjoint(_texts(dataset, "Modality")) \
        or _texts(dataset, "ImageType")[:2] == ["DERIVED", "SECONDARY"]
