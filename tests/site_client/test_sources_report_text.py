"""Headings in four languages split a report; mark-up becomes its text, however hostile."""

from __future__ import annotations

import time

import pytest

from site_client.sources.report_text import html_text, sections


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FINDINGS: Clear lungs.\nIMPRESSION: Normal.", ("Clear lungs.", "Normal.")),
        ("Findings:\nClear lungs.\n\nNo effusion.\nConclusion:\n1. Normal.",
         ("Clear lungs. No effusion.", "1. Normal.")),
        ("INDICATION: Cough.\nTECHNIQUE: PA.\nFINDINGS: Clear.\nIMPRESSION\nNormal.", ("Clear.", "Normal.")),
        ("Klinische Angaben: Husten.\nBefund: Unauffällig.\nBeurteilung: Kein Infiltrat.",
         ("Unauffällig.", "Kein Infiltrat.")),
        ("INDICATION : Toux.\nRÉSULTATS : Normal.\nCONCLUSION : Pas de lésion.", ("Normal.", "Pas de lésion.")),
        ("Técnica: PA.\nHALLAZGOS: Sin lesiones.\nIMPRESIÓN DIAGNÓSTICA: Normal.", ("Sin lesiones.", "Normal.")),
        ("Clear lungs. Findings: are in the middle.", ("Clear lungs. Findings: are in the middle.", "")),
        ("Heart normal.\nImpression: Normal.", ("Heart normal.", "Normal.")),
        ("Impression: Normal.", ("", "Normal.")),
        ("Indication: Cough.", ("Cough.", "")),
        ("**Findings:** Clear.\n# Impression\nNormal.", ("Clear.", "Normal.")),
        ("Finding of a nodule.\nNodule: 5 mm.", ("Finding of a nodule. Nodule: 5 mm.", "")),
        ("", ("", "")),
    ],
)
def test_sections(text, expected):
    assert sections(text) == expected


def test_mark_up_becomes_lines_of_text():
    markup = ("<?xml version='1.0'?><!DOCTYPE html><head><title>t</title><style>p{}</style></head><div xmlns='x'>"
              "<h2>Findings</h2><p>Clear&nbsp;lungs, &lt;5&nbsp;mm &#233;</p><!-- note --><script>alert(1)</script>"
              "<table><tr><td>Impression:</td><td>Normal.</td></tr></table><br/>End</div>")
    assert sections(html_text(markup)) == ("Clear lungs, <5 mm é", "Normal. End")


@pytest.mark.parametrize("piece", [
    "<div>", "<", "<!--", "<![", "<a b='", "</", "&", "&#", "<!", "<?", "<script>", "<div a=1 ", "<a"])
def test_hostile_mark_up_ends_soon(piece):
    begin = time.monotonic()
    html_text(piece * (2**17 // len(piece)))
    assert time.monotonic() - begin < 10


def test_many_lines_of_a_hostile_heading_end_soon():
    begin = time.monotonic()
    sections("aaa " * 30_000 + "\n" + "\t" * 100_000 + "\n" + "# * " * 30_000)
    assert time.monotonic() - begin < 5
