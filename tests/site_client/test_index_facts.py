"""Numbers of an index: exact for the site, small counts hidden for anybody else."""

from __future__ import annotations

import json

import pytest

from model.inputs import Example
from site_client.index_facts import index_facts, report_facts, report_text
from site_client.records import PatientRecord, Refusal, SiteIndex

EXAMPLE = Example("q", "a")


def index(*samples: int, refused: int = 0) -> SiteIndex:
    patients = tuple(PatientRecord(f"{number:064x}", {"studies": (EXAMPLE,) * count})
                     for number, count in enumerate(samples))
    return SiteIndex(patients, (Refusal("dicom/SMITH^ANNA", "sop-class"),) * refused,
                     files={"modalities": {"CT": 40, "US": 3}, "syntaxes": {"1.2.840.10008.1.2.1": 43}},
                     phi_hits={"name": 2})


def test_a_report_hides_small_counts_everywhere():
    facts = report_facts("site-1", index(*[1] * 25, refused=4))
    assert facts["modalities"] == {"CT": 40, "US": "<10"}
    assert facts["refused"] == "<10"
    assert facts["refused_by_reason"] == {"sop-class": "<10"}
    assert facts["phi_hits"] == {"name": "<10"}
    assert facts["sources"] == {"studies": {"patients": 25, "samples": 25}}
    assert facts["identity_conflicts"] == 0


def test_exact_is_exact():
    facts = report_facts("site-1", index(*[1] * 24, 184, refused=4), exact=True)
    assert facts["modalities"]["US"] == 3
    assert facts["refused"] == 4
    assert facts["samples_per_patient"] == {"50 %": 1, "90 %": 1, "99 %": 184, "most": 184}


@pytest.mark.parametrize(("patients", "shown"), [
    (19, {"50 %": None, "90 %": None, "99 %": None}), (20, {"50 %": 1, "90 %": None, "99 %": None}),
    (100, {"50 %": 1, "90 %": 1, "99 %": None}), (1000, {"50 %": 1, "90 %": 1, "99 %": 1})])
def test_a_percentile_that_tells_of_fewer_than_ten_patients_is_hidden(patients, shown):
    assert report_facts("site-1", index(*[1] * patients))["samples_per_patient"] == shown


def test_neither_form_shows_a_file_or_a_pseudonym():
    made = index(*[1] * 30, refused=20)
    for facts in (index_facts("site-1", made), report_facts("site-1", made)):
        text = json.dumps(facts)
        assert "SMITH" not in text
        assert "0" * 40 not in text
    assert "hidden  99 %" in report_text(report_facts("site-1", made))


def test_an_empty_index_can_be_reported():
    assert "0 patients" in report_text(report_facts("site-1", SiteIndex(())))
