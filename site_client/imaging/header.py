"""What a DICOM file's header says that the index needs; read in the sandbox, before any pixel is touched.

`header_pass` reads it there. This module knows no DICOM library: the site's own process only ever gets `Header`s.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["MOST_FRAMES", "MOST_LIST", "MOST_PIXELS", "MOST_SIDE", "MOST_TEXT", "Header"]

MOST_SIDE = 16_384        # pixels; stitched legs and spines reach 12,000
MOST_PIXELS = 1 << 26     # of one frame; a mammogram has 23 million
MOST_FRAMES = 1 << 20
MOST_TEXT = 1024          # characters of one value; DICOM's longest name has 194 (PS3.5 6.2)
MOST_LIST = 64            # values of one of the lists below


@dataclass(frozen=True, slots=True)
class Header:
    """One image file. Texts are as in the file, stripped; "" where an element is absent.

    patient_id: not normalised. names, identifiers, dates: what a text of this patient must not hold (PHI anchors):
    PatientName, OtherPatientNames, referring and performing physicians, operators; PatientID, OtherPatientIDs,
    AccessionNumber, StudyID; PatientBirthDate, StudyDate, SeriesDate, AcquisitionDate, ContentDate as YYYYMMDD.
    frames: NumberOfFrames, 1 where absent. position: along the normal of the slice in mm (PS3.3 C.7.6.2.1.1), nan where
    unknown. suspect: text may be burned into the pixels (PS3.3 C.7.6.1.1.5, and the modality).
    """

    sop_uid: str = field(repr=False)
    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    accession: str = field(repr=False)
    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    identifiers: tuple[str, ...] = field(repr=False)
    dates: tuple[str, ...] = field(repr=False)
    sop_class: str
    modality: str
    transfer_syntax: str
    rows: int
    columns: int
    frames: int
    instance_number: int
    position: float
    suspect: bool
