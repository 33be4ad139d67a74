"""What a site knows about its patients after reading its folder: one record for each patient, and what was
refused.

The record is the privacy unit: sampling, clipping and accounting work on `PatientRecord`, never on images or
rows. Only pseudonyms leave this module upwards; the identifiers of the hospital's archive stay in the files.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from configs.schema import SOURCES

if TYPE_CHECKING:
    from model.inputs import Example

__all__ = [
    "PatientRecord", "SiteIndex", "Refusal", "RefusedItemError", "REASONS", "SOURCES",
    "checked_patient_id", "keyed_digest", "pseudonym",
]  # fmt: skip

REASONS: Mapping[str, str] = {
    "answer-missing": "The question has no answer.",
    "answer-not-a-choice": "The answer is not one of the choices.",
    "burned-in-text": "Text may be burned into the picture; see images.burned_in of the site file.",
    "choices-malformed": "The choices are fewer than two, too many, repeated or empty.",
    "conversation-malformed": "The conversation's turns do not alternate between a question and its answer.",
    "date-malformed": "A date is neither YYYYMMDD nor YYYY-MM-DD.",
    "decoder-crashed": "The decoder crashed on the file; it is damaged.",
    "decoder-memory": "Decoding the file needs more memory than images.memory_gib allows.",
    "decoder-missing": "No decoder of the transfer syntax is installed; `site-client doctor` names the extra.",
    "decoder-timeout": "Decoding the file takes longer than images.timeout_s allows.",
    "deflated": "The file is deflated, which could unpack to any size; convert it (such as `dcmconv +te`).",
    "dicom-unreadable": "The file is not a readable DICOM file.",
    "file-changed": "The file changed while it was read; run `site-client index` again.",
    "file-name": "The file's name is not valid UTF-8; rename it.",
    "file-not-readable": "The file cannot be opened, or is a link.",
    "file-too-large": "The file is larger than the reader accepts.",
    "frame-count": "The number of frames is not a whole number above zero.",
    "frame-missing": "The file does not have the frame that was asked for.",
    "frames-malformed": "The number of frames is not a whole number from 1 to what the file has room for.",
    "identifier-differs": "The file's meta information names another SOP instance than its content.",
    "identifier-missing": "An identifier is empty.",
    "identifier-repeated": "The same identifier appeared before; the first one was kept.",
    "identity-conflict": "Two patients claim this identifier; each keeps its own, look into it.",
    "image-kind": "The pixels are not one frame of 8-bit RGB.",
    "image-size": "Rows or columns are missing or out of bounds.",
    "image-unknown": "The question names an image that was not read.",
    "images-ambiguous": "The question names its images in more than one way.",
    "images-not-counted": "The question names no image, or too many.",
    "issuer-differs": "The issuer of the patient ID is not the one configured for this folder.",
    "kind-unknown": "The kind of question is unknown.",
    "localizer": "The image is a localizer (scout), which only shows where the slices lie.",
    "lookup-table": "A lookup table of the file is malformed.",
    "not-utf8": "The row is not valid UTF-8.",
    "opted-out": "The patient is on the site's opt-out list.",
    "path-outside": "The path leads out of the folder, or through a link.",
    "patient-ambiguous": "The patient has several identifiers and none of them stands out.",
    "patient-bound": "The patient has more samples than one patient may contribute.",
    "patient-dummy": "The patient ID is a placeholder, so patients cannot be told apart.",
    "patient-mismatch": "The question and what it refers to belong to different patients.",
    "patient-missing": "The patient ID is missing.",
    "phi-found": "The text seems to name somebody; the review file shows where.",
    "picture-too-large": "The pictures of the file are too large together; lower images.most_frames.",
    "pixel-kind": "The bits, the colour model or the number type of the pixels cannot be shown.",
    "pixels-described-badly": "An element that describes the pixels is missing, or has a value that is not supported.",
    "pixels-truncated": "The pixel data does not have the length that the header announces.",
    "pixels-undecodable": "The pixels cannot be decoded; the file is damaged, or not what its header says.",
    "reference-unresolved": "The server does not give a resource that the report refers to.",
    "report-format": "The report's text is in a format that is not read here.",
    "report-not-final": "The report is not final, amended or corrected.",
    "report-pdf": "The report's text is only a PDF.",
    "report-superseded": "A later report of the same patient and study is used instead.",
    "report-unknown": "The question names a report that was not read.",
    "rescale-unusable": "The rescale slope is zero, or slope or intercept are no usable numbers.",
    "row-malformed": "The line is not a whole row of the header's columns; texts must not hold line breaks.",
    "sop-class": "The SOP class is not on the list of accepted ones.",
    "study-ambiguous": "The report names several studies and no single accession number.",
    "study-missing": "The report or question names no study and no accession number.",
    "syntax-unknown": "The transfer syntax is missing or not one of still images; convert the file.",
    "text-missing": "A text is empty.",
    "text-too-long": "A text is longer than the reader accepts.",
    "transfer-syntax": "The transfer syntax is not uncompressed little endian.",
}

MIN_KEY_BYTES = 16

_DUMMY_IDS = frozenset(
    {"ANON", "ANONYM", "ANONYMISED", "ANONYMIZED", "ANONYMOUS", "DEIDENTIFIED", "DUMMY", "N/A", "NA", "NAN"}
    | {"NIL", "NONE", "NULL", "PATIENT", "REMOVED", "TEST", "UNBEKANNT", "UNDEFINED", "UNKNOWN"}
)
_UNSEEN = "\u034f\u115f\u1160\u180b\u180c\u180d\u3164\uffa0"
_FILLERS = "0X-_.*?#^ "


class RefusedItemError(Exception):
    """One file, row or question is not used; ``code`` is a key of `REASONS`, the text is its sentence."""

    def __init__(self, code: str) -> None:
        super().__init__(REASONS[code])
        self.code = code


@dataclass(frozen=True)
class Refusal:
    """Something that was not read. ``reason`` (a key of `REASONS`) may be counted and shown anywhere.

    ``item`` names the file or row for the hospital's own staff; it can contain a patient's identifier, so it
    must not leave the site and is kept out of the representation.
    """

    item: str = field(repr=False)
    reason: str


@dataclass(frozen=True)
class PatientRecord:
    """Everything one patient contributes: examples by source (a member of `SOURCES`), in a fixed order.

    ``pseudonym`` is 64 hexadecimal digits that only the holder of the site's key can link to the patient.
    """

    pseudonym: str = field(repr=False)
    examples: Mapping[str, tuple[Example, ...]] = field(repr=False)


@dataclass(frozen=True)
class SiteIndex:
    """All patients of a site, by pseudonym, everything that was refused, and what was used but looks mixed up.

    files: {"modalities" or "syntaxes": {value: files that can be used}}. phi_hits: {kind: hits in texts}.
    patients_behind: of how many patients each of these counts is ("modalities", "syntaxes", "phi_hits").
    """

    patients: tuple[PatientRecord, ...] = field(repr=False)
    refused: tuple[Refusal, ...] = field(repr=False, default=())
    suspect: tuple[Refusal, ...] = field(repr=False, default=())
    files: Mapping[str, Mapping[str, int]] = field(repr=False, default_factory=dict)
    phi_hits: Mapping[str, int] = field(repr=False, default_factory=dict)
    patients_behind: Mapping[str, Mapping[str, int]] = field(repr=False, default_factory=dict)

    def reasons(self) -> dict[str, int]:
        """How often each reason occurred: {code: count}, by code. Data-dependent: for the site's own
        screens."""
        return dict(sorted(Counter(refusal.reason for refusal in self.refused).items()))


def checked_patient_id(value: object) -> str:
    """The patient ID normalised for comparison, or RefusedItemError when it cannot tell patients apart.

    Case, width, runs of blanks and what nobody sees (zero-width and control characters) are ignored. Two spellings that
    coincide count as one patient: that can only make the privacy unit larger. Placeholders are refused, since they
    would merge strangers or split one patient.
    """
    if not isinstance(value, str):
        raise RefusedItemError("patient-missing")
    normal = " ".join(_visible(unicodedata.normalize("NFKC", _visible(value))).split()).upper()
    if not normal:
        raise RefusedItemError("patient-missing")
    # Only the whole ID counts: "ANON 0042" is a pseudonym that tells patients apart.
    if not normal.strip(_FILLERS) or normal.replace("-", "").strip(_FILLERS) in _DUMMY_IDS:
        raise RefusedItemError("patient-dummy")
    return normal


def _visible(text: str) -> str:
    return "".join(char for char in text if char.isspace() or not (
        unicodedata.category(char) in ("Cc", "Cf") or char in _UNSEEN or "\ufe00" <= char <= "\ufe0f"))


def pseudonym(key: bytes, issuer: str, patient_id: str) -> str:
    """HMAC-SHA256 (RFC 2104) of issuer, 0x1f and normalised patient ID under the site's key, as 64 hex
    digits.

    ``issuer`` is the authority that assigned the ID (DICOM PS3.3 C.7.1.1, Issuer of Patient ID), "" when
    unnamed. Raises ValueError when the key is shorter than 16 bytes.
    """
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"The pseudonym key has {len(key)} bytes; use at least {MIN_KEY_BYTES} random ones.")
    return keyed_digest(key, issuer.strip(), patient_id)


def keyed_digest(key: bytes, *parts: str) -> str:
    """HMAC-SHA256 of the parts joined by 0x1f, as 64 hex digits."""
    return hmac.new(key, "\x1f".join(parts).encode(), hashlib.sha256).hexdigest()
