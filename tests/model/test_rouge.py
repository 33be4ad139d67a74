"""ROUGE-L: worked examples of Lin's paper and known answers of the rouge-score package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.rouge import longest_common_subsequence, rouge_l, rouge_tokens

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rouge.json").read_text(encoding="utf-8"))


def test_the_example_of_the_paper() -> None:
    reference = "police killed the gunman"  # Lin 2004, section 3.1
    assert rouge_l(reference, "police kill the gunman") == 0.75
    assert rouge_l(reference, "the gunman kill police") == 0.5
    assert rouge_l(reference, "the gunman police killed") == 0.5


@pytest.mark.parametrize("start", range(0, 120, 20))
def test_the_package_says_the_same(start: int) -> None:
    for reference, candidate, expected in VECTORS["pairs"][start : start + 20]:
        assert rouge_l(reference, candidate) == pytest.approx(expected, abs=1e-12), (reference, candidate)


def test_the_vectors_are_not_trivial() -> None:
    values = [expected for *_, expected in VECTORS["pairs"]]
    assert len(values) == 120 and min(values) == 0 and sum(0.1 < value < 0.9 for value in values) > 60


def test_nothing_in_common_and_empty_texts() -> None:
    assert rouge_l("clear lungs", "enlarged heart") == rouge_l("", "") == rouge_l("clear", "") == 0.0
    assert rouge_tokens("X-ray: 2.5cm, Clear!") == ["x", "ray", "2", "5cm", "clear"]


def test_a_common_subsequence_may_have_gaps_but_keeps_the_order() -> None:
    assert longest_common_subsequence("abcbdab", "bdcaba") == 4  # the textbook's example
    assert longest_common_subsequence("abc", "cba") == 1 and longest_common_subsequence("", "a") == 0
