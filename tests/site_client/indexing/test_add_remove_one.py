"""The neighbouring relation of the privacy claim, on random hospitals whose identifiers collide: with one patient more
or less every other patient's samples stay what they were, to the picture and the order."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from configs.site_data import ImagesConfig, PhiConfig
from site_client.imaging.header import Header
from site_client.imaging.sandbox import Rendered
from site_client.indexing.build import IndexSettings, build_index
from site_client.indexing.tile_cache import CachedImage, TileForm
from site_client.records import RefusedItemError, SiteIndex, pseudonym
from site_client.sources.tables import FolderSource
from tests.site_client.made_headers import KEY, header

PATIENTS = [f"P{number}" for number in range(5)]
TEXTS = ["Clear lungs.", "Mr Smith is well.", "Smith", "Brown", "Effusion, see A1.", "born 3 February 1961",
         "No change."]


class Hospital:
    """Rows and files, each with its patient; written without some of the patients."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.files: list[tuple[str, Header | str, str]] = []
        self.rows: dict[str, list[tuple[str, dict[str, object]]]] = {
            "reports": [], "questions": [], "conversations": []}
        for number in range(30):
            owner = draw.choice(PATIENTS)
            known: Header | str = header(
                patient_id=owner, sop_uid=f"1.{draw.randrange(12)}", study_uid=f"2.{draw.randrange(5)}",
                series_uid=f"3.{draw.randrange(3)}", accession=f"A{draw.randrange(5)}", frames=draw.choice([1, 1, 20]),
                instance_number=draw.randrange(4), names=draw.choice([("Smith^Anna",), ("Brown^Bo",), ()]),
                suspect=draw.random() < 0.1)
            if draw.random() < 0.1:
                known = "sop-class"
            self.files.append((f"{draw.choice('abc')}/{number}", known, owner))
        for _ in range(40):
            owner = draw.choice(PATIENTS)
            self.rows["reports"].append((owner, {
                "patient_id": owner, "accession_number": f"A{draw.randrange(5)}",
                "study_instance_uid": draw.choice(["", f"2.{draw.randrange(5)}"]), "findings": draw.choice(TEXTS),
                "impression": draw.choice(["", *TEXTS]), "patient_name": draw.choice(["", "Brown, Bo"])}))
            owner = draw.choice(PATIENTS)
            kind = draw.choice(["normal", "impression", "alike", "study", "question"])
            row: dict[str, object] = {
                "patient_id": owner, "question_id": f"q{draw.randrange(10)}", "kind": kind,
                "question": draw.choice(TEXTS), "answer": draw.choice(TEXTS)}
            if kind in ("alike", "question") and draw.random() < 0.7:
                row["sop_instance_uids"] = [f"1.{draw.randrange(12)}" for _ in range(draw.randrange(1, 3))]
            else:
                row["accession_number"] = f"A{draw.randrange(5)}"
            self.rows["questions"].append((owner, row))
            path, _, owner = draw.choice(self.files)
            self.rows["conversations"].append((owner, {
                "id": draw.randrange(8), "image": path, "conversations": [
                    {"from": "human", "value": draw.choice(TEXTS)}, {"from": "gpt", "value": draw.choice(TEXTS)}] * 2}))

    def write(self, folder: Path, without: Sequence[str]) -> None:
        for path, _, owner in self.files:
            file = folder / "dicom" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if owner in without:
                file.unlink(missing_ok=True)
            elif not file.exists():
                file.write_bytes(b"x")
                os.utime(file, ns=(1, 1))
        for name, rows in self.rows.items():
            (folder / f"{name}.jsonl").write_text("".join(
                json.dumps(row) + "\n" for owner, row in rows if owner not in without))

    def get(self) -> Hospital:
        return self

    def scan(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Header | str]]:
        known = {path: found for path, found, _ in self.files}
        for path in paths:
            yield path, known["/".join(path.parts[-2:])]

    def render(self, path: Path, frames: Sequence[int]) -> Rendered:
        name = "/".join(path.parts[-2:])
        value = hashlib.sha256(name.encode()).digest()[0]
        if value < 25:
            raise RefusedItemError("pixels-undecodable")
        pixels = tuple(np.full((20, 20, 3), (value + frame) % 256, np.uint8) for frame in frames)
        return Rendered(pixels, ("",) * len(pixels), "ab" * 32)


def described(index: SiteIndex) -> dict[str, object]:
    """Everything that training sees, by patient."""
    return {record.pseudonym: [
        (source, one.key, one.question, one.answer, one.choices,
         [(image.name, image.count, int(image.overview().mean())) for image in one.images
          if isinstance(image, CachedImage)])
        for source, examples in record.examples.items() for one in examples] for record in index.patients}


@pytest.mark.parametrize("on_hit", ["refuse", "redact"])
@pytest.mark.parametrize("seed", range(4))
def test_one_patient_more_or_less_changes_nothing_for_another(tmp_path: Path, seed: int, on_hit: str) -> None:
    hospital = Hospital(seed)

    def read(where: str, without: Sequence[str] = (), opted_out: Sequence[str] = ()) -> dict[str, object]:
        folder = tmp_path / where
        hospital.write(folder, without)
        settings = IndexSettings(
            folder=folder / "index", key=KEY, phi=PhiConfig(on_hit=on_hit), form=TileForm(28, 4), most_samples=4,
            images=ImagesConfig(workers=3), opted_out=frozenset(pseudonym(KEY, "", one) for one in opted_out))
        return described(build_index([FolderSource(folder)], settings, parser=hospital))

    whole = read("kept")
    assert len(whole) >= 4
    for gone in PATIENTS:
        rest = {name: found for name, found in whole.items() if name != pseudonym(KEY, "", gone)}
        assert read(f"new{gone}", [gone]) == rest
        assert read("kept", [gone]) == rest
        assert read("kept") == whole
        assert read("kept", opted_out=[gone]) == rest
    assert read("kept") == whole
