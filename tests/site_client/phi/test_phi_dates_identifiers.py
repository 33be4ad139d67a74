"""The patient's dates and identifiers in a text, in many forms, and numbers that are neither."""

from __future__ import annotations

import pytest

from site_client.phi.anchors import Anchors
from site_client.phi.check import find_phi

PATIENT = Anchors((), ("00123456", "A-78901", "12", "7754", "2019"), ("19500301", "20230305120000"))

OWN_DATES = [
    "20230305", "March 1950", "on 3/5", "5 March", "March 5", "01031950", "03/1950", "born in 1950", "le 5 mars",
    "050323",
    "geb. 1950", "born 3/1", "March '23", "DOB 03-01-50", "1950-03", "am 5.3.", "5. März", "el 5 de marzo", "*1.3.1950",
    "seen 5MAR", "Mar 2023", "3-5-23"]
FULL_DATES = [
    "2023-03-05", "03/05/2023", "5.3.2023", "05-Mar-2023", "March 5th, 2023", "5 March 23", "3/5/23", "1.3.50",
    "5. März 2023", "5 mars 2023", "5 de marzo de 2023", "5 maart 2023", "March 1, 1950", "Mar. 5, 2023",
    "2023 March 5",
    "March the 5th 2023", "5th of March, 2023", "2023/03/05", "2023.03.05", "2023-03-05T10:11:12", "Mar-05-2023",
    "5/3/2023", "5MAR2023", "05MAR23", "1er mars 1950", "1º de marzo de 1950", "2023\u201103\u201105",
    "03\u00a0/\u00a005\u00a0/\u00a02023",
    "٠٥/٠٣/٢٠٢٣", "30/12/1999", "12-31-1999"]
AGES = [
    "92-year-old", "aged 95", "101 yo man", "a 92 y/o", "94-jährige Patientin", "91 ans", "95 años", "93 jaar oud",
    "ninety-two-year-old", "Age: 97", "98 Jahre alt", "in her 90s"]
IDENTIFIERS = [
    "MRN 123456", "00123456", "0000123456", "123-456", "123 456", "MRN123456", "#123456", "ID: 12", "Acc 12", "A78901",
    "a 78901", "78901", "7754", "MRN: 7754", "ACC#00012", "1 2 3 4 5 6", "p123456", "123.456", "12\u200d3456",
    "1234\u00ad56",
    "ID 2019", "patient no. 12", "file_123456.dcm", "A/78901", "Pat.-Nr. 12"]
NEITHER = [
    "3/5 views", "C5/C6", "in 2023", "1950 mL", "March", "5 mm", "T3/5", "3-5 days", "may 5 mm", "grade 3/6 murmur",
    "12 mm",
    "7754 mL", "77.54", "12 ribs", "77 54", "T12", "12th rib", "1.2 x 3.4 cm", "T12-L1", "L4-L5", "10:30 AM", "3 of 4",
    "16.2/24", "45-year-old", "89-year-old", "100-1200 mL", "8-1/2 months", "6-8-10 weeks", "ratio 5.3.", "in 2019",
    "image 12 of 24", "no. 3", "series 4 image 123", "90 degrees", "95% stenosis", "94 mm", "2-3 days",
    "77,541", "x 92 cm", "L5-S1", "on 4/7", "5 ago", "1-1/2"]


@pytest.mark.parametrize(("kind", "text"), [
    *(("date", text) for text in OWN_DATES + FULL_DATES), *(("age", text) for text in AGES),
    *(("identifier", text) for text in IDENTIFIERS)])
def test_it_is_found_whole(kind, text):
    hits = find_phi(f"Stable. {text} unchanged", PATIENT)
    assert kind in {hit.kind for hit in hits}
    if kind == "date" and text in FULL_DATES:
        start, end = len("Stable. "), len("Stable. ") + len(text)
        left = [char for at, char in enumerate(f"Stable. {text}") if at >= start and char.isdigit()
                and not any(hit.start <= at < hit.end for hit in hits) and "T1" not in text]
        assert left == [] and end


@pytest.mark.parametrize("text", FULL_DATES)
def test_a_full_date_is_found_whoever_the_patient_is(text):
    assert {hit.kind for hit in find_phi(text, Anchors())} == {"date"}


@pytest.mark.parametrize("text", [
    text for text in OWN_DATES if text not in ("DOB 03-01-50", "*1.3.1950", "20230305", "01031950")])
def test_a_part_of_a_date_is_found_only_where_it_is_the_patients(text):
    assert find_phi(text, Anchors(dates=("19770812",))) == []


@pytest.mark.parametrize("text", NEITHER)
def test_other_numbers_are_not(text):
    assert find_phi(f"Stable: {text} unchanged", PATIENT) == []


@pytest.mark.parametrize("text", ["9123456", "1234567"])
def test_an_identifier_inside_a_longer_number_is_not_the_patients(text):
    assert "identifier" not in {hit.kind for hit in find_phi(text, PATIENT)}


@pytest.mark.parametrize("value", ["", "0", "0000", "XXXX", "UNKNOWN", "-", "CHEST", "T12", "L5S1", "AN"])
def test_what_identifies_nobody_is_not_looked_for(value):
    assert find_phi("CHEST: T12, L5-S1, unknown XXXX 0000 0, an AN - .", Anchors((), (value,))) == []


@pytest.mark.parametrize("value", ["", "1950", "00000000", "19501345", "unknown", "99999999"])
def test_what_is_no_date_is_not_looked_for(value):
    assert find_phi("in 1950, 00000000-ish"[:8], Anchors(dates=(value,))) == []
