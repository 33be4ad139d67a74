"""Does a text name its patient, or anybody: hits with their places, the text without them, and what to do.

Searched for: the patient's own names (`names`, `name_search`), identifiers (`identifiers`) and dates (`dates`), and
whatever names somebody whoever the patient is (`patterns`, `persons`). Not found: other people without a title ("her
daughter Angela"), nicknames, initials without a word for the patient, places, dates in words, and descriptions that
fit one person only.

The time is linear in the text's length; the reader of a source bounds that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from site_client.phi.anchors import Anchors
from site_client.phi.dates import DateForms, date_forms, find_ages, find_dates
from site_client.phi.folding import KINDS, Folded, fold, masked, token_of, tokens
from site_client.phi.identifiers import IdentifierForms, find_identifiers, identifier_forms
from site_client.phi.name_search import find_names
from site_client.phi.names import NameForms, name_forms
from site_client.phi.patterns import find_patterns
from site_client.phi.persons import find_persons

if TYPE_CHECKING:
    from configs.site_data import PhiConfig

__all__ = ["KINDS", "RULES_VERSION", "Hit", "PhiChecker", "Recogniser", "Verdict", "find_phi", "merged", "redact"]

RULES_VERSION = 4
"""Raise it when a text may get other hits than before: kept verdicts of older rules are not used."""

_MOST_PASSES = 8


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """Characters [start, end) of a text name somebody. ``kind``: a member of `KINDS`."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a text: ``usable``, and then ``text`` as it may be used (None when not); ``counts``: hits by
    kind. ``hits`` refer to the text that was checked; they and ``text`` are for the site itself only.
    """

    usable: bool
    text: str | None = field(repr=False)
    hits: tuple[Hit, ...] = field(repr=False)
    counts: dict[str, int]


class Recogniser(Protocol):
    """A further source of hits, such as a named-entity recogniser."""

    def find(self, text: str) -> Sequence[Hit]:
        """Hits in the text, with positions in it and kinds of `KINDS`."""
        ...


@dataclass(frozen=True, slots=True)
class _Forms:
    names: NameForms
    identifiers: IdentifierForms
    dates: DateForms


@lru_cache(maxsize=256)
def _forms(anchors: Anchors) -> _Forms:
    return _Forms(name_forms(anchors.names), identifier_forms(anchors.identifiers), date_forms(anchors.dates))


def find_phi(text: str, anchors: Anchors) -> list[Hit]:
    """Everything that names the patient or somebody, sorted, without overlaps; positions in ``text`` as it is.

    What `redact` leaves has no hit: a hit may hide another one behind it, so the text is searched again without what
    was found until nothing is. A text that does not come to an end is one hit.
    """
    folded, forms = fold(text), _forms(anchors)
    found: list[tuple[int, int, str]] = []
    for _ in range(_MOST_PASSES):
        new = list(_search(folded, forms))
        if not new:
            break
        found = _merged([*found, *new])
        spans = [(start, end) for start, end, _ in found]
        folded = Folded(masked(folded.text, spans), masked(folded.lower, spans), folded.origin, folded.length)
    else:
        return [Hit(0, len(text), "name")]
    return merged(Hit(*folded.span(start, end), kind) for start, end, kind in found)


def _search(folded: Folded, forms: _Forms) -> Iterator[tuple[int, int, str]]:
    words = tokens(folded)
    yield from ((*span, "name") for span in find_names(folded, words, forms.names))
    yield from ((*span, "identifier") for span in find_identifiers(folded, words, forms.identifiers))
    yield from ((*span, "date") for span in find_dates(folded, words, forms.dates))
    yield from ((*span, "age") for span in find_ages(folded))
    yield from ((*span, "person") for span in find_persons(folded))
    yield from ((start, end, kind) for kind, start, end in find_patterns(folded))


def merged(hits: Iterable[Hit]) -> list[Hit]:
    """Sorted, and overlapping ones made one, of the longest one's kind; a name stays one."""
    return [Hit(*hit) for hit in _merged((hit.start, hit.end, hit.kind) for hit in hits)]


def _merged(hits: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    result: list[tuple[int, int, str]] = []
    longest = 0  # of the hits that the last of `result` is made of
    for start, end, kind in sorted(hits):
        if not result or start >= result[-1][1]:
            result.append((start, end, kind))
            longest = end - start
            continue
        first, last, known = result[-1]
        if kind == "name" or (known != "name" and end - start > longest):
            known, longest = kind, end - start
        result[-1] = (first, max(last, end), known)
    return result


def redact(text: str, hits: Sequence[Hit]) -> str:
    """The text with ``[NAME]``, ``[DATE]`` and so on instead of the hits, which are sorted and do not overlap."""
    parts, done = [], 0
    for hit in hits:
        parts += [text[done : hit.start], token_of(hit.kind)]
        done = hit.end
    return "".join([*parts, text[done:]])


class PhiChecker:
    """Applies a site's configuration: refuse, redact or warn. ``recogniser``: the plug-in's, None without one."""

    def __init__(self, config: PhiConfig, recogniser: Recogniser | None = None) -> None:
        """Loads the plug-in that ``config`` names unless one is given; ValueError in one sentence when it cannot be."""
        self._on_hit = config.on_hit
        self._recogniser = recogniser
        if recogniser is None and config.plugin:
            from site_client.phi.presidio import PresidioRecogniser

            self._recogniser = PresidioRecogniser(config.plugin_model)

    def check(self, text: str, anchors: Anchors) -> Verdict:
        """What becomes of this text of the patient with these anchors."""
        hits = find_phi(text, anchors)
        if self._recogniser is not None:
            hits = merged([*hits, *self._recogniser.find(text)])
        counts = dict(sorted(Counter(hit.kind for hit in hits).items()))
        if not hits or self._on_hit == "warn":
            return Verdict(True, text, tuple(hits), counts)
        if self._on_hit == "refuse":
            return Verdict(False, None, tuple(hits), counts)
        return Verdict(True, redact(text, hits), tuple(hits), counts)
