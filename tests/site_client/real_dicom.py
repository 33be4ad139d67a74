"""The DICOM files of real scanners that pydicom and pydicom-data carry, and the tools that tests compare with."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pydicom
import pytest

PACKAGES = {"dcm2pnm": "dcmtk", "dcmj2pnm": "dcmtk", "dcml2pnm": "dcmtk", "tesseract": "tesseract-ocr"}
_NO_IMAGES = {".dump", ".gz", ".icc", ".json", ".md", ".py", ".pyc", ".txt", ".xz", ".zip"}


def need(tool: str) -> None:
    """Skip the test, or fail it where CI=true, if a Debian package is missing (.ci/packages installs it)."""
    if shutil.which(tool) is None:
        reason = f"{tool} is missing; run: apt-get install {PACKAGES[tool]}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def folders() -> list[Path]:
    """Where the files lie; DICOM_MORE_FILES may name one more folder."""
    found = importlib.util.find_spec("data_store")
    assert found is not None and found.origin is not None, "pydicom-data is one of the test tools"
    more = os.environ.get("DICOM_MORE_FILES")
    return [Path(pydicom.__file__).parent / "data/test_files", Path(found.origin).parent / "data",
            *([Path(more)] if more else [])]


def real_files() -> list[Path]:
    """Every file that could hold an image, in a fixed order."""
    return [path for folder in folders() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix not in _NO_IMAGES]


def real_file(name: str) -> Path:
    """The one with this name."""
    return next(path for folder in folders() for path in folder.rglob(name))
