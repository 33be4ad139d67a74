"""The checker against texts that three further authors wrote without seeing it or earlier sets (-s for the tables).

A span counts as found when hits cover every character of it except punctuation at its edges.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from site_client.phi.anchors import Anchors
from tests.site_client import fifth_phi_texts, fourth_phi_texts, third_phi_texts
from tests.site_client.test_phi_blind import covered, pieces, whole

RECALL = 0.99
SETS = {"third": third_phi_texts, "fourth": fourth_phi_texts, "fifth": fifth_phi_texts}


@pytest.fixture(params=list(SETS))
def texts(request: pytest.FixtureRequest) -> Any:
    """One set: `cases()`, whose spans count, and `clean_texts()`."""
    return SETS[request.param]


@cache
def _marks(text: str, anchors: Anchors) -> list[bool]:
    return covered(text, anchors)


def test_recall(texts: Any) -> None:
    found: dict[str, list[bool]] = defaultdict(list)
    missed: dict[str, list[str]] = defaultdict(list)
    for case in texts.cases():
        marks = _marks(case.text, case.anchors)
        for span in case.spans:
            hit = whole(case.text, span.start, span.end, marks)
            for row in (span.kind, case.language, "all"):
                found[row].append(hit)
            if not hit:
                missed[span.kind].append(f"{case.template}: {case.text[max(0, span.start - 25):span.start]!r} "
                                         f">>{case.text[span.start:span.end]!r}<< {case.anchors.names}")
    _print("own identifiers found", found)
    for kind, where in missed.items():
        print(f"\nmissed {kind}: {len(where)}", *where[::max(1, len(where) // 12)][:12], sep="\n  ")
    assert sum(found["all"]) / len(found["all"]) >= RECALL


def test_other_people_are_measured(texts: Any) -> None:
    """Residual risk: no header names them, so no bound."""
    found: dict[str, list[bool]] = defaultdict(list)
    for case in texts.cases():
        marks = _marks(case.text, case.anchors)
        for span in case.residual:
            found[span.kind].append(whole(case.text, span.start, span.end, marks))
    _print("other people and dates found (residual risk)", found)
    assert sum(map(len, found.values())) > 500


def test_clean_texts_stay_clean(texts: Any) -> None:
    wrong = Counter(piece for clean in texts.clean_texts()
                    for piece in pieces(clean.text, covered(clean.text, clean.anchors)))
    assert not wrong, wrong.most_common(20)


def _print(title: str, found: dict[str, list[bool]], show: Callable[..., None] = print) -> None:
    show(f"\n{title}")
    for row, hits in sorted(found.items(), key=lambda item: (item[0] == "all", item[0])):
        show(f"  {row:20} {sum(hits):5} of {len(hits):5} {sum(hits) / len(hits):8.2%}")
