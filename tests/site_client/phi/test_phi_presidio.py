"""The plug-in's adapter against a stand-in for the library, and the real library where it is installed."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from configs.site_data import PhiConfig
from site_client.phi.anchors import Anchors
from site_client.phi.check import Hit, PhiChecker
from site_client.phi.presidio import ENTITIES, PresidioRecogniser


@pytest.fixture
def model(tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps({"lang": "de", "name": "site"}), encoding="utf-8")
    return tmp_path


@pytest.fixture
def library(monkeypatch):
    """A small Presidio: finds "Angela" and a driving licence, records how it was set up."""
    seen = SimpleNamespace(loaded=None, downloads=0, asked=None, languages=None, urls=None)

    class SpacyNlpEngine:
        def __init__(self, models):
            self.nlp, self.models = None, models

        def load(self):
            seen.downloads += 1

    class AnalyzerEngine:
        def __init__(self, nlp_engine, supported_languages):
            seen.languages = supported_languages
            if nlp_engine.nlp is None:
                nlp_engine.load()

        def get_supported_entities(self, language):
            return ["PERSON", "US_DRIVER_LICENSE", "EMAIL_ADDRESS", "DATE_TIME"]

        def analyze(self, text, language, entities, score_threshold):
            seen.asked = entities
            found = [("PERSON", "Angela"), ("PERSON", "NAME"), ("EMAIL_ADDRESS", "x@y.org")]
            return [SimpleNamespace(entity_type=kind, start=text.index(word), end=text.index(word) + len(word))
                    for kind, word in found if word in text and kind in entities]

    def load(folder):
        if not (folder / "config.cfg").exists():
            raise OSError("E053 no config")
        seen.loaded = folder
        return "nlp"

    class TLDExtract:
        def __init__(self, suffix_list_urls, cache_dir):
            seen.urls = suffix_list_urls

    for name, content in {
            "presidio_analyzer": {"AnalyzerEngine": AnalyzerEngine},
            "presidio_analyzer.nlp_engine": {"SpacyNlpEngine": SpacyNlpEngine},
            "spacy": {"load": load}, "tldextract": {"TLDExtract": TLDExtract}}.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return seen


def test_the_sites_model_is_used_in_its_language_and_nothing_is_fetched(model, library):
    (model / "config.cfg").touch()
    recogniser = PresidioRecogniser(str(model))
    assert recogniser.find("[NAME] and Angela, x@y.org") == [Hit(11, 17, "person"), Hit(19, 26, "email")]
    assert library.asked == ["EMAIL_ADDRESS", "PERSON"]
    assert (library.loaded, library.languages, library.downloads, library.urls) == (model, ["de"], 0, ())


def test_the_checker_merges_its_hits_with_its_own(model, library):
    (model / "config.cfg").touch()
    checker = PhiChecker(PhiConfig(on_hit="redact", plugin="presidio", plugin_model=str(model)))
    assert checker.check("May Long and Angela", Anchors(("Long^May",))).text == "[NAME] and [PERSON]"


def test_a_folder_that_is_no_model_is_one_sentence(model, library, tmp_path):
    with pytest.raises(ValueError, match=r"is no folder of a spaCy model \(OSError\)"):
        PresidioRecogniser(str(model))
    (model / "meta.json").write_text("[]", encoding="utf-8")
    for folder in (model, tmp_path / "missing"):
        with pytest.raises(ValueError, match=r"no meta.json with a language"):
            PresidioRecogniser(str(folder))


def test_a_missing_library_is_one_sentence(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(ValueError, match="not installed; install the extra phi-presidio"):
        PhiChecker(PhiConfig(plugin="presidio", plugin_model=str(model)))


def test_kinds_are_those_of_the_checker():
    from site_client.phi.check import KINDS

    assert set(ENTITIES.values()) <= set(KINDS)


@pytest.mark.skipif(importlib.util.find_spec("presidio_analyzer") is None, reason="phi-presidio is not installed")
def test_the_real_library_works_with_a_model_from_a_folder(tmp_path):
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Angela"}])
    nlp.to_disk(tmp_path / "model")
    text = "her daughter Angela, x@y.org; C5/C6 and T12-L1"
    hits = PresidioRecogniser(str(tmp_path / "model")).find(text)
    assert [text[hit.start : hit.end] for hit in hits] == ["Angela", "x@y.org"]
