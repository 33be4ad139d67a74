"""The patient's name in a text: spellings that must be found, words and terms that must not."""

from __future__ import annotations

import pytest

from site_client.phi.anchors import Anchors
from site_client.phi.check import find_phi

FOUND = {
    "Smith^John^Q^Dr^Jr": [
        "John Smith", "SMITH, JOHN", "smith", "J. Smith", "Smith, J.", "Smith's cough", "Smith^John", "JSmith",
        "johnsmith",
        "S M I T H", "S.M.I.T.H.", "Smi\u200dth seen", "Smi\u00adth", "Sm\u0456th", "Jo\u200bhn Q. Smith", "Smi\x00th",
        "Mr. Smith stage II", "Smi-\nth", "john_smith.dcm", "Smith\u2019s", "Mr.\u00a0Smith", "SMITH2",
        "The Smiths came",
        "Ｓｍｉｔｈ", "ѕмiтн"],
    "Müller^Jürgen": ["Mueller", "Muller", "MÜLLER", "Mu\u0308ller", "Juergen", "Müllers Befund", "J. Müller"],
    "MUELLER^JUERGEN": ["Müller", "Jürgen Müller", "Muller", "Mu\u0308ller"],
    "O'Brien^Siobhán": ["O'Brien", "OBrien", "O’Brien", "O Brien", "obrien", "O`BRIEN", "Siobhan", "S. O'Brien"],
    "OBRIEN^PAT": ["O'Brien", "Pat O’Brien"],
    "D'Angelo^Maria": ["D'Angelo", "D’ANGELO", "DAngelo", "D Angelo"],
    "van der Berg^Jan": ["van der Berg", "Van Der Berg", "vanderberg", "Berg, Jan", "Vander Berg", "VAN DER BERG"],
    "de la Cruz^María José": ["de la Cruz", "Delacruz", "María", "Maria José", "Cruz, Maria"],
    "DELACRUZ^MARIA": ["de la Cruz", "De la Cruz"],
    "McDonald^Ian": ["McDonald", "Mc Donald", "MacDonald", "MCDONALD", "Ian McDonald", "Ian was seen"],
    "Smith-Jones^Ann": ["Smith-Jones", "Smith Jones", "Jones", "Smith", "Ann Smith", "SMITHJONES", "Ann came"],
    "García Márquez^Gabriel": ["Garcia Marquez", "GARCIA", "Marquez", "Gabriel"],
    "Gabriel García": ["garcia", "Gabriel"],
    "Doe, Jane": ["Jane Doe", "doe, jane", "JANE"],
    "Yamada^Tarou=山田^太郎=やまだ^たろう": ["山田太郎", "患者山田は", "山田 太郎", "やまだ", "ﾔﾏﾀﾞ やまだ",
        "Tarou Yamada"],
    "Kim^Minsu=김^민수": ["김민수는", "김 민수", "민수", "Kim Minsu", "Kim presented", "Mr. Kim",
        "\u1100\u1175\u11b7민수"],
    "محمد علي": ["المريض محمد علي", "ومحمد"],
    "Иванов^Иван": ["Иванов", "ИВАНОВ", "Иван"],
    "Παπαδόπουλος^Γιώργος": ["Παπαδοπουλος", "ΠΑΠΑΔΟΠΟΥΛΟΣ"],
    "May^Young": [
        "May Young", "YOUNG MAY", "Young, May", "Mr. May", "patient seen by May today", "may young", "May's cough",
        "Young presented with", "M. Young", "May, 45 years old", "Young, M.", "MR YOUNG IS WELL", "Patient Young has"],
    "Brown^Rib": ["Brown, Rib", "Rib Brown", "seen with Brown today", "Mrs Brown has", "we told Brown that"],
    "Hand^Bone": ["Bone, Hand", "Bone Hand", "Mr. Hand", "Hand, B.", "Frau Hand", "Surname: Hand"],
    "Ng^Ho": ["Ng Ho", "Mr. Ng", "Ho Ng", "NG, HO", "Ng presented with pain"],
    "Do^An": ["An Do", "Do, An", "DO AN", "Mr. Do"],
    "Carina^Lung": ["Lung Carina", "Mrs. Carina"],
    "Kerley^Foley": ["Kerley, Foley", "Mr. Kerley was", "Foley presented"],
    "Hodgkin^Ann": ["Hodgkin presented", "Ann Hodgkin", "Mrs. Hodgkin lymphoma patient"],
    "Winter^Wolf": ["Herr Winter", "Winter, Wolf"],
    "Castle^Hunter": ["Castle tolerated", "Hunter was", "CASTLE"],
    "Baby Boy Smith": ["Smith"],
}
NOT_FOUND = {
    "Smith^John": ["Smith fracture", "a Smith's fracture", "reverse Smith type fracture", "blacksmith", "smit"],
    "OBRIEN^PAT": ["no pat on the back"],
    "van der Berg^Jan": ["in Jan 2020 the view", "van der Waals forces", "der Berg".replace("Berg", "Arm")],
    "de la Cruz^María": ["de la rodilla"],
    "Smith-Jones^Ann": ["annular"],
    "Yamada^Tarou=山田^太郎": ["山の中"],
    "Kim^Minsu=김^민수": ["기침"],
    "May^Young": [
        "May represent", "findings may represent", "a young male", "This MAY be", "a young patient",
        "in May, follow up",
        "The May exam", "(May be)", "No change. May be chronic", "1. May be", "MAY BE A NODULE IN A YOUNG MAN"],
    "Brown^Rib": ["brown fat", "Brown fat uptake", "rib fracture", "Left Rib", "no acute Rib fracture",
        "a Brown tumor"],
    "Hand^Bone": ["hand and bone", "the right Hand is", "MR HAND", "MR Hand", "Hand: normal", "bones of the hand"],
    "Long^White": ["long standing", "white matter", "a White male", "Long bones"],
    "Ng^Ho": ["NG tube in place", "ng tube"],
    "Do^An": ["do an MRI", "Do not repeat", "An MRI was done"],
    "Ray^X": ["X-ray", "x ray", "X-Ray of chest"],
    "Carina^Lung": ["tube above the carina", "Carina is midline", "Lung: clear"],
    "Kerley^Foley": ["Kerley B lines", "Foley catheter", "kerley lines"],
    "Hodgkin^Ann": ["Hodgkin lymphoma", "non-Hodgkin", "non-Hodgkin's lymphoma", "Hodgkin's disease"],
    "Fallot^Douglas": ["tetralogy of Fallot", "pouch of Douglas"],
    "Winter^Wolf": ["Die Schmerzen sind im Winter und bei der Kälte", "kein Winter und der Wolf"],
    "Castle^Hunter": ["a hunter"],
    "XXXX^XXXX": ["XXXX is stable", "Dr. XXXX XXXX"],
    "ANONYMOUS": ["anonymous donor"],
    "Baby Boy Smith": ["a healthy baby boy"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in FOUND.items() for text in texts])
def test_the_name_is_found(name, text):
    assert "name" in {hit.kind for hit in find_phi(text, Anchors((name,)))}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in NOT_FOUND.items() for text in texts])
def test_a_word_that_is_no_name_here_is_not(name, text):
    assert find_phi(text, Anchors((name,))) == []


def test_empty_and_odd_names_look_for_nothing():
    for name in ("", "^", "^^^^", "=", "A", ",", "Dr^", "----", "\u200d", "123", "XXXXX", "\ud800"):
        assert find_phi("A man of 45 was seen, dr. XXXXX 12", Anchors((name,))) == []


def test_initials_beside_the_name_are_covered_with_it():
    (hit,) = find_phi("seen: J. Smith, again", Anchors(("Smith^John",)))
    assert "seen: J. Smith, again"[hit.start : hit.end] == "J. Smith"
