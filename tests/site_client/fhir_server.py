"""The FHIR server of `simulations.fhir_lab` for tests, and resources of the standard's own examples."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations.fhir_lab import FhirServer, Resource, fhir_server
from simulations.public_files import cached_package

__all__ = ["FhirServer", "example_resources", "fhir_server"]


def example_resources() -> list[Resource]:
    """Resources of the standard's own examples; the test is skipped where they are not cached, and fails on CI."""
    folder = cached_package("hl7.fhir.r4.examples")
    if folder is None:
        reason = "hl7.fhir.r4.examples is not in the cache; run: .ci/packages, where npm is"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    kinds = ("DiagnosticReport", "Patient", "ImagingStudy", "ServiceRequest")
    return [json.loads(path.read_text(encoding="utf-8")) for kind in kinds for path in sorted(_named(folder, kind))]


def _named(folder: Path, kind: str) -> Iterator[Path]:
    return folder.glob(f"{kind}-*.json")
