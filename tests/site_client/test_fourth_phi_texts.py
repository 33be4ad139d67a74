"""The fourth set's generator: counts of templates, texts, languages and kinds, spans that hold an identifier and
nothing else, the same texts at every build, and clean texts that hold nothing of their patient."""

from __future__ import annotations

from collections import Counter

from tests.site_client.fourth_phi_texts import Case, cases, clean_texts, words

LANGUAGES = {"en", "de", "nl", "fr", "es"}
KINDS = {"name", "name part", "initials", "patient id", "accession", "birth date", "study date"}
RESIDUAL = {"doctor", "staff", "relative", "other date", "month and year", "not in the header"}


def test_there_are_enough_texts_of_enough_templates_in_five_languages() -> None:
    by_language = Counter(case.language for case in cases())
    assert len(cases()) >= 2_000
    assert len({case.template for case in cases()}) >= 45
    assert set(by_language) == LANGUAGES
    assert 0.4 < by_language["en"] / len(cases()) < 0.6
    assert len({case.text for case in cases()}) > 0.99 * len(cases())


def test_each_kind_but_initials_occurs_often() -> None:
    counts = Counter(span.kind for case in cases() for span in case.spans)
    assert set(counts) == KINDS
    assert min(count for kind, count in counts.items() if kind != "initials") >= 50
    assert {span.kind for case in cases() for span in case.residual} == RESIDUAL


def test_spans_are_ordered_stripped_and_apart() -> None:
    for case in cases():
        end = 0
        for span in sorted((*case.spans, *case.residual), key=lambda span: span.start):
            text = case.text[span.start : span.end]
            assert text, case.template
            assert text == text.strip(" \n\t,;:()^"), (case.template, text)
            assert span.start >= end, (case.template, text)
            end = span.end


def test_spans_hold_what_their_kind_says() -> None:
    for case in cases():
        numbers = {_plain(number) for number in case.anchors.identifiers}
        for span in case.spans:
            text = case.text[span.start : span.end]
            if span.kind in ("patient id", "accession"):
                assert any(number.endswith(_plain(text)) for number in numbers), (case.template, text)
            elif span.kind in ("birth date", "study date"):
                assert any(char.isdigit() for char in text) or "," in text, (case.template, text)
            else:
                assert not any(char.isdigit() for char in text), (case.template, text)


def test_headers_are_whole() -> None:
    for case in (*cases(), *clean_texts()):
        assert all(case.anchors.names) and all(case.anchors.identifiers)
        assert 2 <= len(case.anchors.dates) <= 3
        assert len(set(case.anchors.dates)) == len(case.anchors.dates)
        assert all(len(day) == 8 and day.isdigit() for day in case.anchors.dates)


def test_two_builds_are_the_same() -> None:
    assert cases.__wrapped__() == cases()
    assert clean_texts.__wrapped__() == clean_texts()


def test_clean_texts_hold_no_name_or_number_of_their_patient() -> None:
    assert len(clean_texts()) >= 500
    assert {case.language for case in clean_texts()} == LANGUAGES
    for case in clean_texts():
        assert case.spans == () and case.residual == ()
        assert not words(" ".join(case.anchors.names)) & words(case.text)
        assert not any(_held(number, case) for number in case.anchors.identifiers)


def _plain(number: str) -> str:
    return "".join(char for char in number.upper() if char.isalnum()).lstrip("0")


def _held(number: str, case: Case) -> bool:
    return number in case.text or _plain(number) in _plain(case.text)
