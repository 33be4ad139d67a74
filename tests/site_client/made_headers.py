"""Headers of made-up files, and a scanner that hands them out: the index without a DICOM file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from site_client.imaging.header import Header

KEY = bytes(range(32))
HEADER = Header(
    sop_uid="1.2.1", study_uid="1.2", series_uid="1.2.0", accession="A1", patient_id="P1", issuer="",
    names=("Smith^Anna",), identifiers=("P1", "A1"), dates=("19610203",), sop_class="1.2.840.10008.5.1.4.1.1.1.1",
    modality="DX", transfer_syntax="1.2.840.10008.1.2.1", rows=8, columns=6, frames=1, instance_number=1,
    position=float("nan"), suspect=False)


def header(**changes: object) -> Header:
    return replace(HEADER, **changes)  # type: ignore[arg-type]


class MadeScanner:
    """Answers from `known` (file name -> header or reason); counts what it parsed; `dies_at` breaks off there."""

    def __init__(self, known: dict[str, Header | str]) -> None:
        self.known, self.parsed, self.dies_at = known, [], ""

    def scan(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Header | str]]:
        for path in paths:
            if path.name == self.dies_at:
                raise KeyboardInterrupt
            self.parsed.append(path.name)
            yield path, self.known[path.name]


def write(folder: Path, *names: str, age_s: int = 0) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (1 + age_s))
        os.utime(path, (1_700_000_000 - age_s, 1_700_000_000 - age_s))
