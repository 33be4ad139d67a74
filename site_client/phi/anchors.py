"""What is known of one patient and must not stand in a text of that patient."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Anchors"]


@dataclass(frozen=True, slots=True)
class Anchors:
    """names: DICOM person names (PS3.5 6.2, VR PN) or free text. identifiers: patient ID, accession and the like.
    dates: YYYYMMDD (birth, study). All as they stand in headers and rows; order and repeats do not matter."""

    names: tuple[str, ...] = field(default=(), repr=False)
    identifiers: tuple[str, ...] = field(default=(), repr=False)
    dates: tuple[str, ...] = field(default=(), repr=False)
