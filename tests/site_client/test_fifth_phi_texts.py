"""The fifth set of texts itself: how many, of which kinds, each marked piece whole, the same on every build, and clean
texts that hold nothing of their anchors. What the checker makes of them is not tested here."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from tests.site_client import fifth_phi_texts as texts
from tests.site_client.fifth_phi_texts import Case, cases, clean_texts, name_words, words

KINDS = {"name", "name part", "initials", "patient id", "accession", "birth date", "study date"}


def test_enough_texts_templates_and_languages() -> None:
    made = cases()
    assert len(made) >= 2_000
    assert len({case.template for case in made}) >= 45
    languages = Counter(case.language for case in made)
    assert set(languages) == {"en", "de", "nl", "fr", "es"}
    assert 0.4 < languages["en"] / len(made) < 0.6
    assert min(languages.values()) >= 200


def test_each_kind_occurs_often() -> None:
    kinds = Counter(span.kind for case in cases() for span in case.spans)
    assert set(kinds) == KINDS
    assert all(count >= 50 for kind, count in kinds.items() if kind != "initials")


def test_nearly_every_text_has_something_to_find_and_texts_differ() -> None:
    made = cases()
    assert all(case.spans or case.residual for case in made)
    assert len({case.text for case in made}) == len(made)
    assert sum(not case.spans for case in made) < len(made) / 20


def test_spans_are_whole_and_in_order() -> None:
    for case in cases():
        for span in (*case.spans, *case.residual):
            piece = case.text[span.start : span.end]
            assert piece
            assert piece == piece.strip()
        both = sorted((*case.spans, *case.residual), key=lambda span: span.start)
        assert all(first.end <= second.start for first, second in pairwise(both))


def test_spans_end_where_words_end() -> None:
    for case in cases():
        for span in case.spans:
            before, after = case.text[: span.start][-1:], case.text[span.end :][:1]
            assert not (before.isalnum() and case.text[span.start].isalnum()), case.text
            assert not (after.isalnum() and case.text[span.end - 1].isalnum() and after not in "Tt"), case.text


def test_no_placeholder_is_left() -> None:
    for case in (*cases(), *clean_texts()):
        assert not set(case.text) & set("{}<>[]"), case.text


@pytest.mark.parametrize("build", [texts.cases, texts.clean_texts])
def test_two_builds_are_the_same(build: object) -> None:
    first: tuple[Case, ...] = build.__wrapped__()  # type: ignore[attr-defined]
    assert first == build.__wrapped__()  # type: ignore[attr-defined]


def test_clean_texts_hold_nothing_of_their_anchors() -> None:
    made = clean_texts()
    assert len(made) >= 500
    assert {case.language for case in made} == {"en", "de", "nl", "fr", "es"}
    for case in made:
        assert case.spans == () and case.residual == ()
        assert name_words(case.anchors)
        assert not name_words(case.anchors) & words(case.text)
        assert not any(number in case.text for number in case.anchors.identifiers)
        assert not any(date in case.text for date in case.anchors.dates)
