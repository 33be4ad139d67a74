"""Initials in the place of a name, stays, dates without a year, and given names that a header shortens."""

from __future__ import annotations

import pytest

from site_client.phi.anchors import Anchors
from site_client.phi.check import find_phi


def found(text: str, name: str, *dates: str) -> list[str]:
    return [text[hit.start:hit.end].rstrip(".") for hit in find_phi(text, Anchors((name,), (), dates))]


@pytest.mark.parametrize(("text", "name", "hit"), [
    ("Patient J.D. presents with cough.", "DOE^JANE", "J.D"),
    ("Patientin J. R. Y., geb. in Köln", "YILMAZ^JANA^ROSE", "J. R. Y"),
    ("Patient RTS, 15M, presents", "Small^Rajesh^Tyrone", "RTS"),
    ("initials: J.D.", "DOE^JANE", "J.D"),
    ("ABDULLAH^HELEN^MEI-LING|519", "ABDULLAH HELEN", "ABDULLAH^HELEN^MEI-LING"),
    ("PATIENT: MACLEOD, SANDRA L\nCT head", "MACLEOD^SANDRA", "MACLEOD, SANDRA L"),
    ("pt B.G. Van Buren, stable", "VAN BUREN BRIAN", "B.G. Van Buren"),
    ("Naam: Bossche, Sanne Van den\nCT", "VAN DEN BOSSCHE^SANNE", "Bossche, Sanne Van den"),
    ("WET READ: VON ERICH, IAN MRI brain", "ERICH VON^IAN", "VON ERICH, IAN"),
    ("Naam: Smit, Wouter\nCT", "SMIT^W.", "Smit, Wouter"),
    ("opschrift CORNELIS BAKKER, d.d.", "BAKKER^C.H.", "CORNELIS BAKKER"),
    ("a male named Kenneth Walker Sr with cough", "WALKER^KENNETH^^^SR", "Kenneth Walker Sr"),
    ("Patiënt: S. van de Ven\nCT", "VEN VAN DE^S", "S. van de Ven"),
    ("Naam: H. v/d Linden (918)", "van der Linden^H.", "H. v/d Linden"),
    ("Betreft vd Berg, R., order", "VAN DEN BERG^R.", "vd Berg, R"),
    ("Geprint - D. Hendriks - CT", "HENDRIKS^D.", "D. Hendriks"),
    ("Betreft: Johannes Smit, CT", "Smit^J.", "Johannes Smit"),
    ("M.ª Carmen Suárez Peña, NHC", "SUAREZ PENA^MARIA CARMEN", "M.ª Carmen Suárez Peña"),
    ("HM, 63 F, short of breath", "MCDONALD^HARPER", "HM"),
    ("Pt PM. headache", "Murray^Pauline^Rose", "PM"),
    ("unter dem früheren Namen Gross bekannt", "Groß^Jürgen", "Gross"),
])
def test_what_stands_for_a_name(text: str, name: str, hit: str) -> None:
    assert hit in found(text, name)


@pytest.mark.parametrize(("text", "name"), [
    ("Patient CT of the chest.", "Thomas^Carl"),          # an examination, whatever the initials
    ("CT, 63 F, cough", "Thomas^Bea"),                     # not both letters
    ("Patient A was first.", "Adams^Ann"),                # one letter is none
    ("Patient K.L., other initials", "DOE^JANE"),
    ("AP and PA views. RTS sequence", "Small^Rajesh^Tyrone"),  # no word for the patient
    ("Wires and tubes. Thorax unremarkable.", "SMIT^W.T."),
])
def test_what_does_not(text: str, name: str) -> None:
    assert found(text, name) == []


@pytest.mark.parametrize(("text", "day", "hit"), [
    ("Inpatient stay 6-8 April 2014.", "20140406", "6-8 April 2014"),
    ("Stay September 12-14, 2023.", "20230912", "September 12-14, 2023"),
    ("Aufenthalt 01.-03.11.2024, Fall", "20241103", "01.-03.11.2024"),
    ("Aufenthalt 29.10.-03.11.2024, Fall", "20241103", "29.10.-03.11.2024"),
    ("Opname 20 t/m 22 oktober 2019.", "20191022", "20 t/m 22 oktober 2019"),
    ("Hospitalisation du 24 au 26 novembre 2021.", "20211126", "24 au 26 novembre 2021"),
    ("Ingreso del 6 al 8 de junio de 2014.", "20140608", "6 al 8 de junio de 2014"),
    ("compared with the film of 11/19: nodule", "20181119", "11/19"),
    ("Gegenüber 14.01. keine Änderung", "20200114", "14.01"),
    ("Respecto al 21/09, sin cambios", "20170921", "21/09"),
    ("XR left wrist (17/05): no fracture", "20190517", "17/05"),
    ("Verlauf 07.05.: stabil", "20210507", "07.05"),
    ("Stabiel sinds 3-1.", "20220103", "3-1"),
    ("Date of Exam: August twenty-second, 2021", "20210822", "August twenty-second, 2021"),
    ("Next staging after 10/28 per Dr.", "20141028", "10/28"),
    ("ten opzichte van het onderzoek van 5-2 onveranderd", "20210205", "5-2"),
])
def test_stays_and_days_without_a_year(text: str, day: str, hit: str) -> None:
    assert found(text, "Nobody^Known", day) == [hit]


@pytest.mark.parametrize("text", [
    "strength 4/5 in both arms", "C5-6 disc, grade 3/5", "film of 4/5 images", "compared with 3/5 cm",
    "levels 2-3 and 4-5", "1.1. Technique", "2/3 of the vertebra", "Series 12/20", "L4-05 level"])
def test_what_is_no_date(text: str) -> None:
    assert found(text, "Nobody^Known", "20200405", "20200305", "20201119", "20200101", "20200203", "20201220",
                 "20200504") == []
