"""Reads one DICOM file into 8-bit RGB, after a header check that runs before any pixel is touched.

Accepted: photographic SOP classes, one frame, RGB with 8 bits, uncompressed little endian. Everything else is
refused with a reason (`site_client.records.REASONS`). Compressed and deflated files are refused on their file
meta information: a deflated file is inflated whole by the library's reader before any limit could apply, and
decoders of compressed pixels can bring down the process.

Memory stays within a small multiple of the file, at most `MAX_FILE_BYTES`, whatever a header claims.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_preamble

from site_client.records import RefusedItemError, checked_patient_id

__all__ = [
    "DicomImage", "MAX_FILE_BYTES", "MAX_SIDE_PIXELS", "NATIVE_SYNTAXES", "SOP_CLASSES", "checked_size",
    "native_dataset", "quiet_library", "read_bounded", "read_image", "rgb_pixels"]

SOP_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.77.1.4",  # VL Photographic Image Storage
        "1.2.840.10008.5.1.4.1.1.77.1.7",  # Dermoscopic Photography Image Storage
    }
)
MAX_FILE_BYTES = 64 * 2**20
MAX_SIDE_PIXELS = 8192

NATIVE_SYNTAXES = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})  # implicit and explicit little endian
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "PatientID", "IssuerOfPatientID", "Rows", "Columns", "SamplesPerPixel",
    "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "NumberOfFrames", "PixelData",
]  # fmt: skip


@dataclass(frozen=True)
class DicomImage:
    """One image: ``pixels`` (rows, columns, 3) uint8 RGB, read-only; ``patient_id`` is normalised."""

    uid: str = field(repr=False)
    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)
    pixels: NDArray[np.uint8] = field(repr=False)


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep pydicom from warning and logging: its messages quote values of the file, which no log may
    carry."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def read_image(path: Path) -> DicomImage:
    """Read, check and decode one file. Raises RefusedItemError with the reason, or MemoryError, and nothing else.

    Memory that runs out is full of other patients' images. Were it a refusal, they would decide about this one, so
    reading the folder ends instead. A damaged header cannot cause it: no read goes beyond the file's own bytes. Use
    it inside `quiet_library`.
    """
    try:
        return _decode(native_dataset(read_bounded(path), _TAGS))
    except (RefusedItemError, MemoryError):
        raise
    except Exception:
        # A damaged file makes the library raise nearly anything, with values of the file in the text.
        raise RefusedItemError("dicom-unreadable") from None


def native_dataset(data: bytes, keywords: Sequence[str]) -> Dataset:
    """These elements of a DICOM file's bytes; RefusedItemError unless uncompressed little endian, else what the library
    raises."""
    stream = io.BytesIO(data)
    read_preamble(stream, False)  # raises when it is no DICOM file
    # From memory, where a length that the header makes up cannot ask for more than the file has.
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if str(meta.TransferSyntaxUID) not in NATIVE_SYNTAXES:
        raise RefusedItemError("transfer-syntax")
    stream.seek(0)
    return dcmread(stream, specific_tags=list(keywords))


def read_bounded(path: Path) -> bytes:
    """A regular file's bytes, at most MAX_FILE_BYTES; RefusedItemError for a link, and for what is no such file."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):  # a link could lead out of the folder, a pipe would never end
            raise RefusedItemError("file-not-readable")
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size > MAX_FILE_BYTES:
                raise RefusedItemError("file-too-large")
            return stream.read(MAX_FILE_BYTES)
    except OSError:
        raise RefusedItemError("file-not-readable") from None


def _decode(dataset: Dataset) -> DicomImage:
    if dataset.get("SOPClassUID") not in SOP_CLASSES:
        raise RefusedItemError("sop-class")
    patient_id = checked_patient_id(dataset.get("PatientID"))
    uid = dataset.get("SOPInstanceUID")
    if not uid or uid != dataset.file_meta.get("MediaStorageSOPInstanceUID"):
        raise RefusedItemError("identifier-missing")
    pixels = rgb_pixels(dataset)
    return DicomImage(str(uid), patient_id, str(dataset.get("IssuerOfPatientID") or "").strip(), pixels)


def checked_size(dataset: Dataset) -> tuple[int, int]:
    """(rows, columns); RefusedItemError when one is missing or not in 1..MAX_SIDE_PIXELS."""
    sides = dataset.get("Rows"), dataset.get("Columns")
    if not all(isinstance(side, int) and 1 <= side <= MAX_SIDE_PIXELS for side in sides):
        raise RefusedItemError("image-size")
    return sides


def rgb_pixels(dataset: Dataset) -> NDArray[np.uint8]:
    """Read-only uint8 (rows, columns, 3) of one uncompressed frame of 8-bit RGB; RefusedItemError for all else."""
    rows, columns = checked_size(dataset)
    _check_kind(dataset)
    return _pixels(dataset, rows, columns)


def _check_kind(dataset: Dataset) -> None:
    wanted: dict[str, tuple[Any, ...]] = {
        "SamplesPerPixel": (3,),
        "PhotometricInterpretation": ("RGB",),
        "PlanarConfiguration": (0, 1),
        "BitsAllocated": (8,),
        "BitsStored": (8,),
        "PixelRepresentation": (0,),
        "NumberOfFrames": (None, 1),
    }
    if any(dataset.get(keyword) not in allowed for keyword, allowed in wanted.items()):
        raise RefusedItemError("image-kind")


def _pixels(dataset: Dataset, rows: int, columns: int) -> NDArray[np.uint8]:
    """The pixels (rows, columns, 3); PS3.3 C.7.6.3.1.3 gives the two orders, PS3.5 8.1.1 the padding byte."""
    body, length = dataset.get("PixelData"), rows * columns * 3
    if not isinstance(body, bytes) or len(body) != length + length % 2:
        raise RefusedItemError("pixels-truncated")
    flat = np.frombuffer(body, dtype=np.uint8, count=length)
    if dataset.PlanarConfiguration == 0:
        return flat.reshape(rows, columns, 3)
    by_colour = np.ascontiguousarray(flat.reshape(3, rows, columns).transpose(1, 2, 0))
    by_colour.flags.writeable = False
    return by_colour
