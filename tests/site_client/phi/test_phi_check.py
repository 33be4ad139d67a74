"""Hits, redaction and verdicts: places in the original text, nothing left after redaction, a bounded time."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.site_data import PhiConfig
from site_client.phi.anchors import Anchors
from site_client.phi.check import KINDS, Hit, PhiChecker, find_phi, redact

PATIENT = Anchors(("Müller-Long^May Ann^^Dr", "山田^太郎", "O'Brien^Al"), ("00123456", "A-78901", "12"),
                  ("19500301", "20230305"))
PIECES = [
    "May", "Long", "Müller", "Mueller", "long", "may", "MAY", "Ann", "A.", "M.", "Dr.", "Mr.", "Prof.", "XXXX",
    "山田", "太郎",
    "123456", "00123456", "78901", "A", "12", "MRN", "ID:", "acc#", "March", "5", "2023", "1950", "3/5", "born",
    "20230305",
    "[NAME]", "[DATE]", "[PERSON]", "Smith", "Jones", "signed by", "and", "name:", "\u200d", "\u0301", "\u00ad",
    "\u00a0", "\n",
    ",", "-", "'s", "'", "^", "_", ".", "/", "(", ")", "@", "x.org", "http://", "317", "555", "1234", "+49", "92",
    "year old", "in",
    "the", "patient", "O'Brien", "o", "brien", "ß", "½", "\x00", "Street", "rue de", "Hodgkin", "lymphoma"]


def test_hits_are_places_in_the_original_text():
    text = "\u00ad½ Mu\u0308\u200dller\u0301\u200b, ID 12\u200d3456; \u00df 5.\u00a03.\u00a02023."
    assert [(hit.kind, text[hit.start : hit.end]) for hit in find_phi(text, PATIENT)] == [
        ("name", "Mu\u0308\u200dller\u0301\u200b"), ("identifier", "12\u200d3456"), ("date", "5.\u00a03.\u00a02023")]


def test_redaction_writes_one_token_by_kind_and_keeps_the_rest():
    text = "May Long (MRN 123456), seen 5 March 2023 by Dr. Smith; call 317-555-1234."
    assert redact(text, find_phi(text, PATIENT)) == (
        "[NAME] (MRN [IDENTIFIER]), seen [DATE] by Dr. [PERSON]; call [PHONE].")


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PIECES) | st.text(max_size=4), st.sampled_from(["", " ", " ", ". ",
    "\n"])), max_size=14))
def test_what_redaction_leaves_has_no_hit(pieces):
    text = "".join(piece + gap for piece, gap in pieces)
    hits = find_phi(text, PATIENT)
    assert all(0 <= hit.start < hit.end <= len(text) and hit.kind in KINDS for hit in hits)
    assert all(one.end <= other.start for one, other in pairwise(hits))
    clean = redact(text, hits)
    assert find_phi(clean, PATIENT) == []
    assert redact(clean, []) == clean


def test_a_patient_called_like_a_token_does_not_break_redaction():
    for name in ("Name^Date", "Person^Web", "Age^Phone"):
        who = Anchors((name,))
        text = redact("seen: Date Name, Person Web; Mr. Phone", find_phi("seen: Date Name, Person Web; Mr. Phone", who))
        assert find_phi(text, who) == []


def test_one_hit_may_hide_another():
    text = "Mr. 317-555-1234 Dr. Smith\nLong 123456 May"
    assert find_phi(redact(text, find_phi(text, PATIENT)), PATIENT) == []


@pytest.mark.parametrize(("on_hit", "usable", "text"), [
    ("refuse", False, None), ("redact", True, "[NAME] is well."), ("warn", True, "May Long is well.")])
def test_what_the_configuration_says_happens(on_hit, usable, text):
    checker = PhiChecker(PhiConfig(on_hit=on_hit))
    verdict = checker.check("May Long is well.", PATIENT)
    assert (verdict.usable, verdict.text, verdict.counts) == (usable, text, {"name": 1})
    clean = checker.check("The lungs are clear.", PATIENT)
    assert (clean.usable, clean.text, clean.counts, clean.hits) == (True, "The lungs are clear.", {}, ())


def test_a_verdict_shows_no_text_and_no_place():
    verdict = PhiChecker(PhiConfig(on_hit="redact")).check("May Long is well.", PATIENT)
    assert repr(verdict) == "Verdict(usable=True, counts={'name': 1})"


def test_a_further_recogniser_adds_its_hits():
    class Finds:
        def find(self, text: str) -> list[Hit]:
            return [Hit(0, 6, "person"), Hit(7, 10, "address")]

    verdict = PhiChecker(PhiConfig(on_hit="redact"), Finds()).check("Angela saw May Long", PATIENT)
    assert verdict.text == "[PERSON] [ADDRESS] [NAME]"


SLOW = [
    "a", "1", "1 ", "A. ", "1-", "1.", "1/", "@", "a@", "a.", "- ", "\n", "van ", "de la ", "Smi-", "S ", "Dr. ",
    "Dr. A ", "by ",
    "signed by ", "Prof. Dr. med. ", "March ", "March 5 ", "05-", "05/05/", "(317) ", "+1 ", "0 ", "00", "012 ",
    "http://", "a.b.",
    "[NAME]", "[", "\u200d", "\u0301", "a\u0301", "山田", "김", "tel: ", "mrn: ", "A-", "A1 ", "12 Main ", "1 A ",
    "12 rue de la ",
    "Calle de ", "a:", "1:", "::1", "D-", "John J. ", "ninety ", "90-", "born in ", "XXXX ", "Müller, May ",
    "and And ", "0.",
    "1.1.", "medical record number ", "A'A", "l'", "½", "\x1a", "O'", "12 12 ", "May Long "]


@pytest.mark.parametrize("seed", SLOW)
def test_no_text_takes_long(seed):
    odd = ("A-1-1-1-1", "1.2.840.1111.1111")
    who = Anchors((*PATIENT.names, "Aaaa Bbbb"), (*PATIENT.identifiers, *odd), PATIENT.dates)
    text = "May " + (seed * 20_000)[: 19_990] + "!"
    start = time.process_time()
    find_phi(text, who)
    assert time.process_time() - start < 5  # most take 0.2 s; anything quadratic takes minutes


def test_twice_the_text_takes_about_twice_the_time():
    def seconds(length: int) -> float:
        start = time.process_time()
        find_phi(("Dr. Smith 1.1.1 0 05-" * length)[:length], PATIENT)
        return time.process_time() - start

    seconds(2_000)
    assert min(seconds(40_000) for _ in range(2)) < 8 * min(seconds(10_000) for _ in range(2))
