"""Optional plug-in: the recognisers of Microsoft Presidio with a spaCy model that the site provides.

A named-entity recogniser finds what anchors and patterns cannot: people without a title, places. Presidio by itself
downloads models and lists of internet domains; here neither can happen: the model is loaded from the site's folder, the
domain list is the one inside its package, and it computes on the CPU.

Only the kinds in `ENTITIES` are asked for. Others take vertebrae for driving licences ("C5/C6") and days for dates.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from site_client.phi.check import Hit, merged
from site_client.phi.folding import PLACEHOLDER

__all__ = ["ENTITIES", "LOWEST_SCORE", "PresidioRecogniser"]

ENTITIES = {
    "PERSON": "person", "LOCATION": "address", "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "US_SSN": "number",
    "IBAN_CODE": "number", "CREDIT_CARD": "number", "IP_ADDRESS": "web",
}  # fmt: skip
LOWEST_SCORE = 0.5


class PresidioRecogniser:
    """Finds entities in a text; ``folder`` is a spaCy model's, as `nlp.to_disk` or its package leaves it."""

    def __init__(self, folder: str) -> None:
        """Loads the model; ValueError in one sentence when Presidio is not installed or the folder is no model."""
        self._language = _language(Path(folder))
        analyzer, engines, spacy, domains = _libraries()
        # Would fetch publicsuffix.org at the first e-mail address; the list inside the package is enough.
        domains.extract = domains.TLDExtract(suffix_list_urls=(), cache_dir=None)
        try:
            loaded = spacy.load(Path(folder))
        except Exception as error:  # whatever a damaged folder makes the library raise
            raise ValueError(_no_model(folder, type(error).__name__)) from None
        engine = engines.SpacyNlpEngine(models=[{"lang_code": self._language, "model_name": folder}])
        engine.nlp = {self._language: loaded}  # its own load() would download what it does not find
        self._analyzer = analyzer.AnalyzerEngine(nlp_engine=engine, supported_languages=[self._language])
        self._entities = sorted(set(ENTITIES) & set(self._analyzer.get_supported_entities(self._language)))

    def find(self, text: str) -> list[Hit]:
        """Hits with a score of at least `LOWEST_SCORE`, sorted, without overlaps; tokens of `redact` are none."""
        results: Sequence[Any] = self._analyzer.analyze(
            text=text, language=self._language, entities=self._entities, score_threshold=LOWEST_SCORE)
        tokens = [match.span() for match in PLACEHOLDER.finditer(text)]
        return merged(Hit(result.start, result.end, ENTITIES[result.entity_type]) for result in results
                      if not any(result.start < end and start < result.end for start, end in tokens))


def _language(folder: Path) -> str:
    try:
        language = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["lang"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(_no_model(str(folder), "no meta.json with a language")) from None
    if not isinstance(language, str):
        raise ValueError(_no_model(str(folder), "no meta.json with a language"))
    return language


def _no_model(folder: str, why: str) -> str:
    return (f"phi.plugin_model={folder} is no folder of a spaCy model ({why}); give the folder with meta.json and "
            f"config.cfg, nothing is downloaded")


def _libraries() -> tuple[Any, Any, Any, Any]:
    try:
        return tuple(importlib.import_module(name) for name in (  # type: ignore[return-value]
            "presidio_analyzer", "presidio_analyzer.nlp_engine", "spacy", "tldextract"))
    except ImportError:
        raise ValueError("phi.plugin is presidio, which is not installed; install the extra phi-presidio, or leave "
                         "phi.plugin empty") from None
