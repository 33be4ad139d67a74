"""The third set of report texts is what it says: enough texts of enough kinds in five languages, spans that lie on the
identifiers, clean texts that hold none, and the same set on every build. The check itself is not called here."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

from tests.site_client.third_phi_texts import anchor_words, cases, clean_texts, text_words

KINDS = {"name", "name part", "initials", "patient id", "accession", "birth date", "study date"}


def test_enough_texts_templates_and_languages() -> None:
    found = cases()
    languages = Counter(case.language for case in found)
    assert len(found) >= 2000
    assert len({case.template for case in found}) >= 45
    assert set(languages) == {"en", "de", "nl", "fr", "es"}
    assert 0.4 <= languages["en"] / len(found) <= 0.6
    assert len({case.text for case in found}) == len(found)


def test_every_kind_occurs_often() -> None:
    kinds = Counter(span.kind for case in cases() for span in case.spans)
    assert set(kinds) == KINDS
    assert min(kinds.values()) >= 50, kinds


def test_spans_lie_on_stripped_text_in_order() -> None:
    for case in cases():
        assert case.spans, case.template
        everything = sorted((span.start, span.end) for span in case.spans + case.residual)
        for (_, end), (start, _) in pairwise(everything):
            assert end <= start, case
        for span in case.spans + case.residual:
            piece = case.text[span.start : span.end]
            assert piece and piece == piece.strip(), (case.template, piece)
        assert "{" not in case.text and "}" not in case.text


def test_numbers_under_spans_are_the_anchors_own() -> None:
    for case in cases():
        numbers = [re.sub(r"\W", "", value).lower() for value in case.anchors.identifiers]
        for span in case.spans:
            if span.kind in ("patient id", "accession"):
                written = re.sub(r"\W", "", case.text[span.start : span.end]).lower()
                assert len(written) >= 6 and any(number.endswith(written) for number in numbers), (
                    case.anchors,
                    written,
                )


def test_family_or_given_name_stands_in_the_header() -> None:
    misheard = 0
    for case in cases():
        for span in case.spans:
            if span.kind in ("name", "name part"):
                known = text_words(case.text[span.start : span.end]) & anchor_words(case.anchors)
                misheard += not known
                assert known or case.template == "en-misheard", (case.anchors, case.text[span.start : span.end])
    assert misheard <= 30


def test_other_people_do_not_bear_the_patients_names() -> None:
    for case in cases():
        for span in case.residual:
            if span.kind == "other person":
                assert not text_words(case.text[span.start : span.end]) & anchor_words(case.anchors), case


def test_two_builds_are_the_same() -> None:
    assert cases.__wrapped__() == cases()
    assert clean_texts.__wrapped__() == clean_texts()


def test_clean_texts_hold_no_anchor() -> None:
    found = clean_texts()
    assert len(found) >= 500
    assert {case.language for case in found} == {"en", "de", "nl", "fr", "es"}
    for case in found:
        assert not case.spans
        assert not anchor_words(case.anchors) & text_words(case.text), case
        squeezed = re.sub(r"[^\w]", "", case.text).lower()
        for value in case.anchors.identifiers:
            digits = re.sub(r"\D", "", value).lstrip("0")
            assert value.lower() not in case.text.lower() and digits not in squeezed
        for day in case.anchors.dates:
            assert day not in squeezed and f"{day[6:]}{day[4:6]}{day[:4]}" not in squeezed
