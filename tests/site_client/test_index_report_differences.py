"""What a report hides cannot be had back as the difference of two numbers, and many items of one patient are hidden."""

from __future__ import annotations

import json

from model.inputs import Example
from site_client.index_facts import report_facts, report_text
from site_client.records import PatientRecord, Refusal, SiteIndex

EXAMPLE = Example("q", "a")


def index(refused: dict[str, int], **more: object) -> SiteIndex:
    patients = tuple(PatientRecord(f"{number:064x}", {"studies": (EXAMPLE,)}) for number in range(30))
    values = {"files": {"modalities": {"CT": 40, "US": 3}, "syntaxes": {"a": 30, "b": 13}}} | more
    return SiteIndex(patients, tuple(Refusal("x", code) for code, count in refused.items() for _ in range(count)),
                     **values)


def test_the_number_of_all_refusals_does_not_tell_a_hidden_one():
    facts = report_facts("site-1", index({"sop-class": 100, "phi-found": 4}))
    assert facts["refused_by_reason"] == {"phi-found": "<10", "sop-class": 100}
    assert facts["refused"] == ">=100"
    assert report_facts("site-1", index({"sop-class": 100}))["refused"] == 100
    assert report_facts("site-1", index({"sop-class": 1, "phi-found": 4}))["refused"] == "<10"
    assert report_facts("site-1", index({"sop-class": 8, "phi-found": 4}))["refused"] == "hidden"
    assert report_facts("site-1", index({"sop-class": 100, "phi-found": 4}), exact=True)["refused"] == 104


def test_two_tables_of_the_same_files_do_not_tell_a_hidden_count():
    facts = report_facts("site-1", index({}))
    assert facts["modalities"] == {"CT": ">=10", "US": "<10"} or facts["syntaxes"] == {"a": 30, "b": ">=10"}
    assert not (all(isinstance(value, int) for value in facts["syntaxes"].values()))
    plain = report_facts("site-1", index({}, files={"modalities": {"CT": 40}, "syntaxes": {"a": 30, "b": 10}}))
    assert (plain["modalities"], plain["syntaxes"]) == ({"CT": 40}, {"a": 30, "b": 10})


def test_many_files_samples_or_hits_of_few_patients_are_hidden_too():
    few = tuple(PatientRecord(f"{number:064x}", {"studies": (EXAMPLE,) * 20}) for number in range(3))
    made = SiteIndex(few, files={"modalities": {"CT": 500, "MR": 90}}, phi_hits={"name": 60, "date": 70},
                     patients_behind={"modalities": {"CT": 1, "MR": 10}, "phi_hits": {"name": 2, "date": 40}})
    facts = report_facts("site-1", made)
    assert facts["modalities"] == {"CT": "hidden", "MR": 90}
    assert facts["phi_hits"] == {"name": "hidden", "date": 70}
    assert facts["sources"] == {"studies": {"patients": "<10", "samples": "hidden"}}
    exact = report_facts("site-1", made, exact=True)
    assert (exact["modalities"]["CT"], exact["phi_hits"]["name"]) == (500, 60)
    for shown in (facts, exact):
        json.dumps(shown)
        report_text(shown)
    assert "hidden of <10 patients" in report_text(facts)
