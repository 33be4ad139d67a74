"""Patients of the NIH chest X-ray set have 1 to 184 images: each moves the sum by at most the clip norm, once."""

from __future__ import annotations

import csv
import gzip
import importlib.metadata
from collections import Counter

import numpy as np
import pytest

from model.adapted import AdaptedModel
from model.adapter import Selection
from privacy.messages import SourceShare
from site_client import mechanism
from site_client.training import EncodedPatient
from tests.site_client.test_training import (  # noqa: F401
    CLIP,
    DECLARED,
    PATCHES,
    adapted,
    selection,
    task,
    train,
)

LIMIT = 4  # samples of one patient and step


@pytest.fixture(scope="module")
def histogram() -> list[int]:
    """Images of each patient, ascending: read from the installed package, never committed."""
    files = importlib.metadata.files("torchxrayvision") or []
    (listing,) = [file for file in files if file.name == "Data_Entry_2017_v2020.csv.gz"]
    with gzip.open(listing.locate(), "rt", encoding="utf-8") as table:
        return sorted(Counter(row["Patient ID"] for row in csv.DictReader(table)).values())


@pytest.fixture
def cohort(histogram: list[int], adapted: AdaptedModel) -> list[EncodedPatient]:
    """Every 2,500th patient by number of images, the heavy tail, and the one with the most."""
    counts = [*histogram[::2500], histogram[-300], histogram[-30], histogram[-1]]
    few = adapted.encode(PATCHES)
    return [{"patches": [few[number % len(few)] for number in range(count)]} for count in counts]


def shares(limit: int) -> dict[str, object]:
    return {"sources": (SourceShare("patches", limit),)}


def moved(adapted: AdaptedModel, selection: Selection, whole: list[EncodedPatient], rest: list[EncodedPatient],
          limit: int) -> float:
    one, other = (train(adapted, selection, part, task(**shares(limit))) for part in (whole, rest))
    return float(np.linalg.norm(np.concatenate([(one.delta - other.delta) * DECLARED, one.lanes - other.lanes])))


def test_the_histogram_is_that_of_the_fact_sheets(histogram):
    assert (len(histogram), sum(histogram), histogram[-1]) == (30_805, 112_120, 184)


@pytest.mark.parametrize("limit", [LIMIT, 512])
def test_whoever_is_removed_the_sum_moves_by_at_most_the_clip_norm(adapted, selection, cohort, limit):
    for left_out in (0, len(cohort) // 2, len(cohort) - 1):
        rest = [patient for number, patient in enumerate(cohort) if number != left_out]
        assert 0 < moved(adapted, selection, cohort, rest, limit) <= CLIP


def test_the_bound_of_samples_holds_for_the_heaviest(adapted, selection, cohort, monkeypatch):
    rows: list[int] = []
    real = mechanism.collate
    monkeypatch.setattr(mechanism, "collate", lambda samples: rows.append(len(samples)) or real(samples))
    train(adapted, selection, cohort, task(private=True, **shares(LIMIT)))
    assert max(rows) == LIMIT
    assert len(rows) == len(cohort)  # each patient alone


def test_were_the_image_the_unit_the_heaviest_patient_would_break_the_bound(adapted, selection, cohort):
    images = [{"patches": [sample]} for sample in cohort[-1]["patches"][:40]]
    assert moved(adapted, selection, [*cohort[:2], *images], cohort[:2], LIMIT) > 5 * CLIP
