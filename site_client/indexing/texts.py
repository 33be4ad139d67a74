"""Every text of a sample is searched for what names its patient, once; the verdict is kept, the text is not.

A verdict belongs to the text, to what is known of the patient, and to the rules; when one of them changes, so does its
name, and the text is searched again.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable

from configs.site_data import PhiConfig
from site_client.indexing.index_store import IndexStore
from site_client.phi.anchors import Anchors
from site_client.phi.check import RULES_VERSION, Hit, PhiChecker, redact
from site_client.phi.review import ReviewedText
from site_client.records import RefusedItemError, keyed_digest

__all__ = ["TextGate"]


class TextGate:
    """Lets a text through, replaces what names somebody, or refuses it, as the site's file says.

    Args:
        key: the site's pseudonym key, under which verdicts are named.
    """

    def __init__(self, store: IndexStore, config: PhiConfig, key: bytes) -> None:
        self._store, self._key = store, key
        self._rules = f"{RULES_VERSION}|{config.plugin}|{config.plugin_model}"
        self._on_hit = config.on_hit
        self._checker = PhiChecker(config)
        self._patient, self._anchors = "", Anchors()
        self.found: list[ReviewedText] = []
        self.kinds: Counter[str] = Counter()
        self.patients: dict[str, set[str]] = defaultdict(set)
        self.checked = 0

    def passes(self, item: str, patient: str, text: str, beside: Anchors) -> str:
        """The text to use; `beside` is what the row itself says of the patient.

        Raises:
            RefusedItemError: phi-found.
        """
        if not text:
            return text
        hits = self._hits(patient, text, beside)
        self.checked += 1
        if not hits:
            return text
        self.found.append(ReviewedText(item, text, tuple(hits)))
        self.kinds.update(hit.kind for hit in hits)
        for hit in hits:
            self.patients[hit.kind].add(patient)
        if self._on_hit == "refuse":
            raise RefusedItemError("phi-found")
        return redact(text, hits) if self._on_hit == "redact" else text

    def _hits(self, patient: str, text: str, beside: Anchors) -> list[Hit]:
        if patient != self._patient:
            self._patient, self._anchors = patient, self._store.anchors(patient)
        known = self._anchors
        anchors = Anchors(_merged(known.names, beside.names), _merged(known.identifiers, beside.identifiers),
                          _merged(known.dates, beside.dates))
        name = keyed_digest(self._key, "verdict", self._rules, json.dumps(
            [anchors.names, anchors.identifiers, anchors.dates]), text)
        kept = self._store.verdict(name)
        if kept is not None:
            return [Hit(start, end, kind) for kind, start, end in kept]
        hits = list(self._checker.check(text, anchors).hits)
        self._store.put_verdict(name, [(hit.kind, hit.start, hit.end) for hit in hits])
        return hits


def _merged(known: Iterable[str], beside: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({text for text in (*known, *beside) if text}))
