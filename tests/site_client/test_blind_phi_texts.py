"""The blind generator itself: enough of it, the same every time, and every counted span is the patient's own."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

import pytest

from tests.site_client.blind_phi_ambiguous import AMBIGUOUS, RESIDUAL
from tests.site_client.blind_phi_people import ascii_name
from tests.site_client.blind_phi_texts import (
    PARTICLES,
    TEMPLATES,
    Case,
    Span,
    cases,
    clean_texts,
    make_case,
    words_of,
)


def folds(name: str) -> set[str]:
    """A name without accents, punctuation and case, with ue for ü, with u for ü, and with u for ue."""
    name = unicodedata.normalize("NFC", name).casefold()
    plain = {re.sub(r"[\W_]", "", ascii_name(name, german)) for german in (False, True)}
    return plain | {re.sub("([aou])e", r"\1", one) for one in plain}


def header_has(name: str, pn: str) -> bool:
    words = [word for word in re.split(r"[\s\u00a0]+", name) if re.search(r"\w", word)]
    return all(any(fold in whole for fold in folds(word) for whole in folds(pn)) for word in words)


def own(case: Case, span: Span) -> bool:
    text, anchors = case.text[span.start:span.end], case.anchors
    if span.kind == "initial":
        return {ascii_name(letter).casefold() for letter in text if letter.isalpha()} <= {
            ascii_name(word[0]).casefold() for word in re.findall(r"\w+", anchors.names[0])}
    if span.kind == "name":
        return header_has(text, anchors.names[0])
    digits = re.sub(r"\D", "", text)
    if span.kind in ("patient_id", "accession"):
        return len(digits) >= 4 and any(digits in re.sub(r"\D", "", held) for held in anchors.identifiers)
    return any({int(number) for number in re.findall(r"\d+", text) if len(number) < 3} <= {
        int(day[6:]), int(day[4:6]), int(day[2:4])} and day[2:4] in text for day in anchors.dates)


def test_there_is_enough_of_it() -> None:
    assert len(TEMPLATES) >= 60
    assert len({case.text for case in cases()}) >= 3000
    assert len({clean.text for clean in clean_texts()}) >= 500
    assert {case.language for case in cases()} == {clean.language for clean in clean_texts()} == {
        "en", "de", "fr", "es", "nl"}
    assert len(AMBIGUOUS) >= 20 and len(RESIDUAL) >= 15


def test_every_case_is_the_same_each_time() -> None:
    for name in list(TEMPLATES)[::7]:
        assert make_case(name, 3) == make_case(name, 3)


def test_spans_are_in_order_and_do_not_overlap() -> None:
    for case in cases():
        spans = sorted((*case.spans, *case.residual), key=lambda span: span.start)
        assert case.spans and all(span.start < span.end <= len(case.text) for span in spans)
        assert all(a.end <= b.start for a, b in pairwise(spans)), case


@pytest.mark.parametrize("kind", ["name", "initial", "birth_date", "study_date", "patient_id", "accession"])
def test_every_counted_span_is_the_patients_own(kind: str) -> None:
    strange = [(case.template, case.text[span.start:span.end], case.anchors) for case in cases()
               for span in case.spans if span.kind == kind and not own(case, span)]
    assert not strange, strange[:10]


def test_other_people_share_no_word_with_the_patient() -> None:
    shared = [(case.template, case.text[span.start:span.end], case.anchors.names) for case in cases()
              for span in case.residual if "date" not in span.kind
              and {word for word in words_of(case.text[span.start:span.end]) if len(word) > 1}
              & words_of(case.anchors.names[0])]
    assert not shared, shared[:10]


def test_clean_texts_hold_no_word_of_their_patient() -> None:
    for clean in clean_texts():
        name = {word for word in words_of(clean.anchors.names[0]) if len(word) > 1} - PARTICLES
        assert not name & words_of(clean.text), clean
        assert not any(value in clean.text for value in (*clean.anchors.identifiers, *clean.anchors.dates)), clean
