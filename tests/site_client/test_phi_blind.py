"""The checker against texts that were generated without seeing it (run with -s for the tables).

A span counts as found when hits cover every character of it except punctuation at its edges.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import pytest

from site_client.phi.anchors import Anchors
from site_client.phi.check import find_phi
from tests.site_client.blind_phi_ambiguous import AMBIGUOUS, RESIDUAL, Marked
from tests.site_client.blind_phi_texts import Case, cases, clean_texts

RECALL = 0.99
LANGUAGES = ("en", "de", "nl", "fr", "es")
# What hits may cover in a clean text: "Telephone extension 4410" leads to somebody, whoever it is.
KNOWN_FALSE_POSITIVES: frozenset[str] = frozenset({"4410"})

Found = tuple[str, str, str, bool]  # kind, language, template and text, found


def covered(text: str, anchors: Anchors) -> list[bool]:
    """For each character of the text whether a hit covers it."""
    letters = [False] * len(text)
    for hit in find_phi(text, anchors):
        letters[hit.start:hit.end] = [True] * (hit.end - hit.start)
    return letters


def whole(text: str, start: int, end: int, marks: list[bool]) -> bool:
    """Every character but punctuation at the edges."""
    inner = re.search(r"\w(?:.*\w)?", text[start:end], re.DOTALL)
    return inner is not None and all(marks[start + inner.start():start + inner.end()])


def letters_only(text: str, start: int, end: int, marks: list[bool]) -> bool:
    """Every letter and digit; blanks and punctuation between them may stand."""
    return all(marks[at] for at in range(start, end) if text[at].isalnum())


class Measured:
    """Every case checked once."""

    def __init__(self) -> None:
        self.marks = [covered(case.text, case.anchors) for case in cases()]

    def spans(self, rule: Callable[[str, int, int, list[bool]], bool], residual: bool = False) -> list[Found]:
        return [(span.kind, case.language, f"{case.template}/{case.style}: {excerpt(case, span.start, span.end)}",
                 rule(case.text, span.start, span.end, marks))
                for case, marks in zip(cases(), self.marks, strict=True)
                for span in (case.residual if residual else case.spans)]

    def other_marks(self) -> list[str]:
        """What hits cover beside the injected spans and other people's names."""
        found = []
        for case, marks in zip(cases(), self.marks, strict=True):
            rest = list(marks)
            for span in (*case.spans, *case.residual):
                rest[span.start:span.end] = [False] * (span.end - span.start)
            found += pieces(case.text, rest)
        return found


def excerpt(case: Case, start: int, end: int) -> str:
    before, after = case.text[max(0, start - 25):start], case.text[end:end + 20]
    return f"{before!r} >>{case.text[start:end]!r}<< {after!r} {case.anchors.names}"


def pieces(text: str, marks: list[bool]) -> list[str]:
    """The stretches of the text that are marked and hold a letter or digit."""
    runs = re.finditer("1+", "".join("01"[mark] for mark in marks))
    return [text[run.start():run.end()] for run in runs if re.search(r"\w", text[run.start():run.end()])]


def table(title: str, found: Iterable[Found]) -> None:
    counts: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for kind, language, _, hit in found:
        for row in (kind, "all"):
            counts[row, language].append(hit)
            counts[row, "all"].append(hit)
    print(f"\n{title}\n{'':26}" + "".join(f"{language:>17}" for language in (*LANGUAGES, "all")))
    for row in sorted({row for row, _ in counts}, key=lambda row: (row == "all", row)):
        cells = (counts[row, language] for language in (*LANGUAGES, "all"))
        print(f"{row:26}" + "".join(
            f"{f'{sum(cell)}/{len(cell)} {sum(cell) / len(cell):7.2%}' if cell else '-':>17}" for cell in cells))


def marked(title: str, texts: Iterable[Marked]) -> int:
    counts: dict[str, list[bool]] = defaultdict(list)
    for one in texts:
        marks = covered(one.text, one.anchors)
        for start, end, kind in one.spans:
            counts[kind].append(whole(one.text, start, end, marks))
    print(f"\n{title} (not counted)")
    for kind, hits in sorted(counts.items()):
        print(f"  {kind:28} {sum(hits)} of {len(hits)} marked")
    return sum(map(len, counts.values()))


@pytest.fixture(scope="module")
def measured() -> Measured:
    return Measured()


def test_recall_on_texts_that_the_checker_never_saw(measured: Measured) -> None:
    found = measured.spans(whole)
    table("Own identifiers found (every character)", found)
    table("Own identifiers found (every letter and digit)", measured.spans(letters_only))
    misses: dict[str, list[str]] = defaultdict(list)
    for kind, _, where, hit in found:
        if not hit:
            misses[kind].append(where)
    for kind, missed in misses.items():
        print(f"\nmissed {kind}: {len(missed)}", *missed[::max(1, len(missed) // 25)][:25], sep="\n  ")
    recall = sum(hit for *_, hit in found) / len(found)
    assert recall >= RECALL, f"{recall:.4f}; " + str({kind: len(missed) for kind, missed in misses.items()})


def test_other_people_are_measured(measured: Measured) -> None:
    """Residual risk: no header names them, so no bound."""
    found = measured.spans(whole, residual=True)
    table("Other people and other dates marked (residual risk, no bound)", found)
    assert {kind for kind, *_ in found} == {
        "relative", "staff without title", "doctor with title", "date of another study"}


def test_ambiguous_and_out_of_scope_are_measured() -> None:
    assert marked("Ambiguous even to a reader", AMBIGUOUS) >= 25
    assert marked("Out of scope", RESIDUAL) >= 20


def test_marks_beside_the_injected_spans_are_measured(measured: Measured) -> None:
    others = measured.other_marks()
    letters = sum(map(len, others)) / sum(len(case.text) for case in cases())
    print(f"\nmarks beside injected spans: {len(others)} in {len(cases())} texts, {letters:.2%} of all characters")
    print(*(f"  {count:5} {text!r}" for text, count in Counter(others).most_common(40)), sep="\n")
    assert letters < 1


def test_clean_texts_stay_clean() -> None:
    wrong: Counter[tuple[str, str, tuple[str, ...]]] = Counter()
    for clean in clean_texts():
        for text in pieces(clean.text, covered(clean.text, clean.anchors)):
            wrong[clean.language, text, clean.anchors.names] += 1
    print(f"\nfalse positives in {len(clean_texts())} clean texts: {sum(wrong.values())}")
    print(*(f"  {count:4} {what}" for what, count in wrong.most_common()), sep="\n")
    assert not [what for what in wrong if what[1] not in KNOWN_FALSE_POSITIVES], wrong.most_common(10)
