"""Writes colour patches as DICOM files that a hospital's archive would accept.

VL Photographic Image (PS3.3 A.32.4), RGB, 8 bits, one frame, Explicit VR Little Endian, with the full file
meta information (PS3.10 section 7.1). Type 2 attributes whose value nobody knows are present and empty, as
the standard asks. Unique identifiers are derived by hashing a name (PS3.5 B.2: ``2.25.`` and a UUID as an
integer), so the same data always gives the same bytes.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

__all__ = ["VL_PHOTOGRAPHIC", "derive_uid", "write_photograph"]

VL_PHOTOGRAPHIC = "1.2.840.10008.5.1.4.1.1.77.1.4"

_NAMESPACE = uuid.UUID("6f2f4c3a-0b1d-5e59-9d53-5a6c7e1f4b20")
_UNKNOWN = (  # type 2: required to be present, allowed to be empty
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "PatientOrientation",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "SeriesNumber",
    "Manufacturer",
    "ContentDate",
    "ContentTime",
    "LossyImageCompression",
)


def derive_uid(name: str) -> str:
    """The DICOM unique identifier that belongs to ``name``: always the same, at most 44 characters."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def write_photograph(
    folder: Path, pixels: NDArray[np.uint8], *, patient_id: str, study: str, instance: str, number: int
) -> str:
    """Write ``pixels`` (H, W, 3) uint8 RGB to ``folder/<SOPInstanceUID>.dcm`` and return that UID.

    ``study`` and ``instance`` are names from which the identifiers are derived; ``number`` is the instance
    number.
    """
    dataset = _describe_pixels(np.ascontiguousarray(pixels))
    dataset.SOPClassUID = VL_PHOTOGRAPHIC
    dataset.SOPInstanceUID = uid = derive_uid(f"instance {instance}")
    dataset.StudyInstanceUID = derive_uid(f"study {study}")
    dataset.SeriesInstanceUID = derive_uid(f"series {study}")
    dataset.PatientID = patient_id
    dataset.AccessionNumber = study
    dataset.InstanceNumber = number
    dataset.file_meta = _file_meta(uid)
    dcmwrite(folder / f"{uid}.dcm", dataset, enforce_file_format=True)
    return uid


def _describe_pixels(pixels: NDArray[np.uint8]) -> Dataset:
    dataset = Dataset()
    for keyword in _UNKNOWN:
        setattr(dataset, keyword, None)
    dataset.Modality = "XC"  # external-camera photography
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.AcquisitionContextSequence = Sequence()
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = pixels.shape
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    body = pixels.tobytes()
    dataset.PixelData = body + b"\0" * (len(body) % 2)  # PS3.5 section 8.1.1: padded to even length
    dataset["PixelData"].VR = "OB"
    return dataset


def _file_meta(uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VL_PHOTOGRAPHIC
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = derive_uid("implementation")
    meta.ImplementationVersionName = "SIMHOSPITAL_1"  # ours, not the library's: its next release must not change bytes
    return meta
