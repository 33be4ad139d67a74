"""Which kinds of DICOM objects are pictures that a site may train on, and which of them may have text in the pixels.

An allow-list (PS3.4 B.5): what is not named here, such as segmentations, doses, structured reports, presentation
states, waveforms, videos, slides in tiles and encapsulated documents, is dropped. Nuclear medicine and PET are left out
too: counts have no window of their own, and standardised uptake needs dose and weight, which the renderer has not.
"""

from __future__ import annotations

__all__ = ["ACCEPTED", "PHOTOGRAPHS", "SUSPECT_CLASSES", "SUSPECT_MODALITIES"]

_STORAGE = "1.2.840.10008.5.1.4.1.1."

_RADIOGRAPHS = {
    "1",         # Computed Radiography
    "1.1",       # Digital X-Ray, for presentation
    "1.1.1",     # Digital X-Ray, for processing
    "1.2",       # Digital Mammography, for presentation
    "1.2.1",     # Digital Mammography, for processing
    "1.3",       # Digital Intra-Oral X-Ray, for presentation
    "1.3.1",     # Digital Intra-Oral X-Ray, for processing
    "12.2",      # X-Ray Radiofluoroscopic
    "12.2.1",    # Enhanced XRF
    "13.1.3",    # Breast Tomosynthesis
}
_SECTIONS = {
    "2",         # CT
    "2.1",       # Enhanced CT
    "2.2",       # Legacy Converted Enhanced CT
    "4",         # MR
    "4.1",       # Enhanced MR
    "4.3",       # Enhanced MR Color
    "4.4",       # Legacy Converted Enhanced MR
}
_ULTRASOUND = {
    "3",         # Ultrasound Multi-frame (retired)
    "3.1",       # Ultrasound Multi-frame
    "6",         # Ultrasound (retired)
    "6.1",       # Ultrasound
}
_ANGIOGRAPHY = {
    "12.1",      # X-Ray Angiographic
    "12.1.1",    # Enhanced XA
}
_SECONDARY = {
    "7",         # Secondary Capture
    "7.2",       # Multi-frame Grayscale Byte Secondary Capture
    "7.3",       # Multi-frame Grayscale Word Secondary Capture
    "7.4",       # Multi-frame True Color Secondary Capture
}
_VISIBLE_LIGHT = {
    "77.1.1",    # VL Endoscopic
    "77.1.2",    # VL Microscopic
    "77.1.4",    # VL Photographic
    "77.1.5.1",  # Ophthalmic Photography, 8 bit
    "77.1.5.2",  # Ophthalmic Photography, 16 bit
    "77.1.5.4",  # Ophthalmic Tomography
    "77.1.7",    # Dermoscopic Photography
}


def _uids(suffixes: set[str]) -> frozenset[str]:
    return frozenset(_STORAGE + suffix for suffix in suffixes)


ACCEPTED = _uids(_RADIOGRAPHS | _SECTIONS | _ULTRASOUND | _ANGIOGRAPHY | _SECONDARY | _VISIBLE_LIGHT)
"""SOP class UIDs of pictures."""

SUSPECT_CLASSES = _uids(_ULTRASOUND | _ANGIOGRAPHY | _SECONDARY)
"""Devices of these classes draw names and dates into the pixels."""

SUSPECT_MODALITIES = frozenset({"US", "IVUS", "SC", "OT", "XA"})
"""The same, by modality (PS3.3 C.7.3.1.1.1)."""

PHOTOGRAPHS = _uids({"77.1.4", "77.1.7"})
"""Cameras that add no text; only what says of itself that it has some is suspect."""
