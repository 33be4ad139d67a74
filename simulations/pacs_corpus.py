"""Real DICOM files as the archives of several hospitals, and questions and reports made of what their headers say.

The files are those of pydicom and pydicom-data (MIT): real scanners' pictures, and a few objects that are no pictures,
as every archive has them. They are grouped by their own PatientID; files without a usable one are left out, since
nobody knows whose they are. Nothing in a file is changed.

The packages have no reports. Texts are made of true header facts (modality, body part, colour, size, frames), so what
they say is right and nobody wrote it about a patient. Two reports are made to be found: one names its patient, one
belongs to another patient than its images.
"""

from __future__ import annotations

import base64
import json
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from simulations.fhir_lab import Resource
from site_client.records import RefusedItemError, checked_patient_id

__all__ = [
    "Hospital", "Patient", "Picture", "Study", "first_reports", "hospitals", "patients_of", "questions", "report",
    "report_id", "write_questions",
]  # fmt: skip

MOST_FILES = 4  # of one study; the packages have up to 50 alike
_TAGS = ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate",
         "Modality", "BodyPartExamined", "PhotometricInterpretation", "SamplesPerPixel", "NumberOfFrames", "Rows",
         "Columns", "AccessionNumber"]
_MODALITIES = {"CR": "computed radiography", "CT": "computed tomography", "MR": "magnetic resonance",
               "NM": "nuclear medicine", "OT": "another device", "US": "ultrasound"}


@dataclass(frozen=True)
class Picture:
    """One file and what its header says; `rows` is 0 where it holds no picture."""

    path: Path
    uid: str
    modality: str
    body_part: str
    colour: bool
    frames: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Study:
    """The files of one StudyInstanceUID, each SOPInstanceUID once."""

    uid: str
    files: tuple[Picture, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Those of a modality that a reader could name."""
        return tuple(file for file in self.files if file.rows and file.modality in _MODALITIES)

    @property
    def can_be_reported(self) -> bool:
        """It has pictures, and a UID that FHIR can name (some packages' anonymised ones have letters)."""
        return bool(self.pictures) and re.fullmatch(r"[0-9.]+", self.uid) is not None


@dataclass(frozen=True)
class Patient:
    """A PatientID of the files, with the name that they carry (DICOM's form, Family^Given)."""

    patient_id: str
    name: str
    studies: tuple[Study, ...]

    @property
    def has_pictures(self) -> bool:
        """Whether anything can be learned from this one."""
        return any(study.pictures for study in self.studies)


@dataclass(frozen=True)
class Hospital:
    """One site: who is in its archive at first, and the study that comes later (of its first patient)."""

    site_id: str
    patients: tuple[Patient, ...]
    later: Study | None = field(default=None)

    @property
    def files(self) -> list[Path]:
        """Everything that is in the archive at first."""
        return [file.path for patient in self.patients for study in patient.studies for file in study.files]


# ------------------------------------------------------------------ patients


def patients_of(paths: Iterable[Path]) -> tuple[Patient, ...]:
    """Everybody with a usable PatientID, by that ID.

    Of several encodings of one image (the packages test decoders with them) the smallest file is taken.
    """
    found: dict[str, dict[str, dict[str, Picture]]] = defaultdict(lambda: defaultdict(dict))
    names: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # several files are there because they are odd
        for path in sorted(paths, key=lambda one: (one.stat().st_size, one.name)):
            for patient, study, name, picture in _read(path):
                images = found[patient][study]
                if len(images) < MOST_FILES:
                    images.setdefault(picture.uid, picture)
                names.setdefault(patient, name)
    return tuple(Patient(patient, names[patient], tuple(
        Study(uid, tuple(images.values())) for uid, images in sorted(studies.items())))
        for patient, studies in sorted(found.items()))


def _read(path: Path) -> Iterator[tuple[str, str, str, Picture]]:
    """(patient, study, name, picture) of a file that says whose it is and what it is; nothing of another."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        patient = checked_patient_id(header.get("PatientID") or "")
        if header.get("StudyInstanceUID") and header.get("SOPInstanceUID"):
            yield patient, str(header.StudyInstanceUID), str(header.get("PatientName") or ""), _picture(path, header)
    except RefusedItemError:
        return
    except (InvalidDicomError, OSError, ValueError, AttributeError):
        return  # a file that a reader cannot open is none that an archive holds


def _picture(path: Path, header: Dataset) -> Picture:
    frames = str(header.get("NumberOfFrames") or 1)
    return Picture(
        path, str(header.SOPInstanceUID), str(header.get("Modality") or ""),
        str(header.get("BodyPartExamined") or "").lower(),
        colour=(header.get("SamplesPerPixel") or 1) == 3 or header.get("PhotometricInterpretation") == "PALETTE COLOR",
        frames=int(frames) if frames.isdigit() else 1, rows=int(header.get("Rows") or 0),
        columns=int(header.get("Columns") or 0))


def hospitals(patients: Sequence[Patient], number: int) -> tuple[Hospital, ...]:
    """Deal the patients to `number` sites: those with most studies first, in turn; no patient is at two.

    The first site's first patient has four studies with pictures or more: the last of them comes later.
    Raises ValueError when the files have too few patients, or nobody has four studies.
    """
    with_pictures = [one for one in patients if one.has_pictures]
    others = [one for one in patients if not one.has_pictures]
    dealt = sorted(with_pictures, key=lambda one: (-len(one.studies), one.patient_id)) + others
    if len(with_pictures) < 2 * number or sum(bool(study.pictures) for study in dealt[0].studies) < 4:
        raise ValueError(f"the DICOM files have pictures of {len(with_pictures)} patients with a usable PatientID, too "
                         f"few for {number} hospitals; run: pip install pydicom-data")
    made = [Hospital(f"site-{k + 1}", tuple(dealt[k::number])) for k in range(number)]
    first, *rest = made[0].patients
    later = max((study for study in first.studies if study.pictures), key=lambda one: one.uid)
    stays = Patient(first.patient_id, first.name, tuple(study for study in first.studies if study is not later))
    return (Hospital(made[0].site_id, (stays, *rest), later), *made[1:])


# ------------------------------------------------------------------ questions


def questions(patient: Patient, studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """Rows of questions.jsonl: one picture each, every answer a fact of its header."""
    for study in studies:
        for picture in study.pictures[:1]:
            row = {"patient_id": patient.patient_id, "kind": "question", "sop_instance_uids": [picture.uid]}
            yield row | {"question_id": f"{picture.uid}-modality", "question": "How was this picture made?",
                         "choices": sorted(_MODALITIES), "answer": picture.modality}
            yield row | {"question_id": f"{picture.uid}-colour", "question": "Is this picture in colour or in grey?",
                         "choices": ["colour", "grey"], "answer": "colour" if picture.colour else "grey"}
            if picture.body_part:
                yield row | {"question_id": f"{picture.uid}-part", "question": "Which part of the body is shown?",
                             "answer": picture.body_part}


def write_questions(folder: Path, hospital: Hospital, *, with_later: bool = False) -> None:
    """(Over)write FOLDER/questions.jsonl for what the archive holds, as a hospital's export would."""
    rows = [row for patient in hospital.patients for row in questions(patient, patient.studies)]
    if with_later and hospital.later is not None:
        rows += questions(hospital.patients[0], [hospital.later])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = folder / "questions.partial"
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    partial.replace(folder / "questions.jsonl")


# ------------------------------------------------------------------ reports


def first_reports(hospital: Hospital) -> list[Resource]:
    """A report of each patient's first study. Where a study comes later, its patient has two reports more: one that
    names the patient in its text, and one that says it is about the second patient: a mix-up."""
    made = [resource for patient in hospital.patients
            for study in [study for study in patient.studies if study.can_be_reported][:1]
            for resource in report(patient, study)]
    if hospital.later is not None:
        patient, other = hospital.patients[:2]
        family, _, given = patient.name.partition("^")
        made += report(patient, patient.studies[1], beside=f" Compared with the earlier pictures of {given} {family}.")
        made += report(patient, patient.studies[2], subject=other)
    return made


def report_id(study: Study) -> str:
    """Of the DiagnosticReport about this study, on its server."""
    return f"report-{study.uid[-50:]}"


def report(patient: Patient, study: Study, *, beside: str = "", subject: Patient | None = None) -> list[Resource]:
    """A Patient, an ImagingStudy and a final DiagnosticReport (FHIR R4) of this study.

    :param beside: a further sentence. :param subject: another patient, whom the report says it is about.
    """
    owner = (subject or patient).patient_id
    number = re.sub(r"[^A-Za-z0-9.-]", "-", owner)
    return [
        {"resourceType": "Patient", "id": number, "identifier": [
            {"type": {"coding": [{"code": "MR"}]}, "value": owner}]},
        {"resourceType": "ImagingStudy", "id": f"study-{study.uid[-50:]}", "status": "available", "identifier": [
            {"system": "urn:dicom:uid", "value": f"urn:oid:{study.uid}"}]},
        {"resourceType": "DiagnosticReport", "id": report_id(study), "status": "final",
         "code": {"text": "Imaging report"}, "category": [{"coding": [{"code": "RAD"}]}],
         "subject": {"reference": f"Patient/{number}"},
         "imagingStudy": [{"reference": f"ImagingStudy/study-{study.uid[-50:]}"}], "presentedForm": [
            {"contentType": "text/plain", "data": base64.b64encode(_text(study, beside).encode()).decode()}]},
    ]


def _text(study: Study, beside: str) -> str:
    picture = study.pictures[0]
    part = f" of the {picture.body_part}" if picture.body_part else ""
    kind = _MODALITIES[picture.modality]
    frames = f", {picture.frames} frames" if picture.frames > 1 else ""
    number = len(study.pictures)
    return (f"FINDINGS: {number} {'picture' if number == 1 else 'pictures'}{part} by {kind}, "
            f"{picture.columns} by {picture.rows} pixels{frames}, {'colour' if picture.colour else 'grey'}.{beside}\n"
            f"IMPRESSION: {kind}{part}.")
