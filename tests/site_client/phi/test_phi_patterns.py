"""What names somebody whoever the patient is, by kind, and the measurements that look like it."""

from __future__ import annotations

import pytest

from site_client.phi.anchors import Anchors
from site_client.phi.check import find_phi

FOUND = {
    "email": ["jane@x.org", "jane.roe (at) clinic.org", "J.ROE+x@mail.hospital.example"],
    "phone": ["call 317-555-1234", "(317) 555-1234", "+49 221 478 1234", "0221/4781234", "06 12 34 56 78", "tel 4711",
              "ext. 4412", "555-1234", "317.555.1234", "1-800-555-1234", "Pager: 12345", "612 345 678",
              "+31 6 12345678"],
    "number": ["123-45-6789", "1234567", "A123456789", "DE89 3704 0044 0532 0130 00", "1.2.840.113619.2.55.3",
               "1EG4-TE5-MK73", "SSN: 123 45 6789", "12345678Z", "65 010190 K 123", "4111 1111 1111 1111"],
    "identifier": ["MRN: 84521", "Accession 8812-55", "Patient ID: 4471", "Fallnummer 33821", "dossier n° 5521",
                   "Medical record number: A-1234", "acc# 99871", "Chart # 5512", "NHC 44521"],
    "web": ["https://x.y/z?p=1", "10.0.0.12", "192.168.1.200", "www.x.de", "2001:db8::1", "pacs.clinic.org"],
    "address": ["12 Main Street", "Hauptstraße 12", "46202-1234", "IN 46202", "12 rue de la Paix", "Calle Mayor 12",
                "Keizersgracht 123", "in 50937 Köln", "1600 Pennsylvania Ave", "P.O. Box 12", "D-50937 Köln"],
    "person": [
        "Dr. Smith", "Dr Smith reviewed", "Mrs. Jones", "Herr Müller", "Frau Dr. Weber", "Prof. Dr. med. Hans Schmidt",
        "Mme Dupont", "Sra. López", "Dictated by: Jane Roe", "electronically signed by John Roe, MD", "Nurse Johnson",
        "John Roe, MD", "discussed with Dr. van der Berg", "Name: Jane Roe", "Dr. O'Neil", "DR. SMITH", "MRS. JONES",
        "Mevr. de Vries", "dhr. Jansen", "Mlle Petit", "Dra. García", "Schwester Monika", "Befundet von: A. Krause",
        "Firmado por Ana Ruiz", "Dicté par Jean Petit", "Drs. Lee and Park"],
}
NOT_FOUND = [
    "1.2 x 3.4 cm", "T12-L1", "C5/C6", "at 1430", "MR Head", "MS lesion", "Dr. XXXX XXXX", "Dr. XXXX notified",
    "x 3 days",
    "100-1200 mL", "120/80 mmHg", "MRI 1.5T", "120 kVp 5 mAs", "CT CHEST 2019", "Heart size normal", "DR chest",
    "1.25 mm",
    "2.5 x 1.8 x 3.2 cm", "TI 1200 ms", "10-12 mm", "ID of lesion", "case 3", "chart review", "12 x 14 x 16 mm",
    "SpO2 98-100", "EKG 3/5/", "Drs. notified", "acc. 3", "visit 3 months", "account for 30", "10.1.2", "3.2.1.4 cm",
    "2 views of the Chest", "No. 3. No effusion.No pneumothorax", "signed by XXXX XXXX", "reviewed by the attending",
    "Mr head without contrast"[:0] or "sr. view", "10:30:45", "lungs are clear.The heart", "e.g. i.e. a.m. p.m.",
    "vs. prior", "TNM T2 N1 M0", "Bi-RADS 4", "5 Lateral Ct", "L1, L2, L3, L4, L5", "grade II/III", "12,000 units"]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_it_is_found(kind, text):
    assert kind in {hit.kind for hit in find_phi(f"Stable. {text} on file", Anchors())}


@pytest.mark.parametrize("text", NOT_FOUND)
def test_it_is_not(text):
    assert find_phi(f"Stable. {text} unchanged", Anchors()) == []


def test_a_title_stays_and_the_whole_name_goes():
    text = "Read by Prof. Dr. med. Hans-Peter von Lipa, MD and Anna Maria Roe"
    covered = " ".join(text[hit.start : hit.end] for hit in find_phi(text, Anchors()))
    assert all(name in covered for name in ("Hans-Peter", "Lipa"))
