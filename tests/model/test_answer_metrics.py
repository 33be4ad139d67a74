"""What an answer is worth, kind by kind, and that F1 adds up over items."""

from __future__ import annotations

import pytest

from model.answer_metrics import LOWER_IS_BETTER, PER_OBSERVATION, score
from model.benchmarks.items import KINDS, Item

CHOICE = Item("1", "g", "choice", "Q?", "B", ("red", "blue"))
LABEL = Item("2", "g", "label", "Q?", "maybe", ("yes", "no", "maybe"))
YES = Item("3", "g", "closed", "Q?", "Yes", ("yes", "no"))
SIDE = Item("4", "g", "closed", "Q?", "left")
OPEN = Item("5", "g", "open", "Q?", "left lower lobe")
REPORT = Item("6", "g", "impression", "Findings: ...", "Small pleural effusion. No pneumothorax.")


@pytest.mark.parametrize(
    ("item", "answer", "accuracy", "malformed"),
    [(CHOICE, "B", 1, 0), (CHOICE, "blue", 1, 0), (CHOICE, "A", 0, 0), (CHOICE, "it is blue", 0, 1), (CHOICE, "", 0, 1),
     (LABEL, "Maybe.", 1, 0), (LABEL, "no", 0, 0), (LABEL, "perhaps", 0, 1), (LABEL, "C", 0, 1)])
def test_named_answers(item: Item, answer: str, accuracy: int, malformed: int) -> None:
    assert score(item, answer) == {"accuracy": (accuracy, 1.0), "malformed": (malformed, 1.0)}
    assert "malformed" in LOWER_IS_BETTER


@pytest.mark.parametrize(
    ("item", "answer", "right"),
    [(YES, "yes", 1), (YES, "Yes.", 1), (YES, "no", 0), (YES, "yes, a little", 0), (YES, "", 0), (SIDE, "Left", 1),
     (SIDE, "left lung", 0), (SIDE, "", 0)])
def test_closed_answers(item: Item, answer: str, right: int) -> None:
    assert score(item, answer) == {"exact match": (right, 1.0), "closed accuracy": (right, 1.0)}


def test_open_answers() -> None:
    assert score(OPEN, "the Left lower lobe.") == {
        "exact match": (1, 1.0), "open exact match": (1, 1.0), "open token F1": (1.0, 1.0)}
    assert score(OPEN, "lower lobe") == {
        "exact match": (0, 1.0), "open exact match": (0, 1.0), "open token F1": (pytest.approx(0.8), 1.0)}


def test_an_impression() -> None:
    found = score(REPORT, "Moderate pleural effusion and cardiomegaly.")
    assert found["ROUGE-L"] == (pytest.approx(2 * 2 / (5 + 5)), 1.0)
    assert found["finding F1"] == (2.0, 3.0) == found["abnormality F1"]  # TP 1, FP 1, FN 0
    assert found[f"{PER_OBSERVATION}Pleural Effusion"] == (2.0, 2.0)
    assert found[f"{PER_OBSERVATION}Cardiomegaly"] == (0.0, 1.0)
    assert found[f"{PER_OBSERVATION}Pneumothorax"] == (0.0, 0.0)  # denied by one, unmentioned by the other


def test_a_normal_report_counts_as_a_finding_but_not_as_an_abnormality() -> None:
    normal = Item("7", "g", "impression", "Findings: ...", "No acute disease.")
    found = score(normal, "Normal chest.")
    assert found["finding F1"] == (2.0, 2.0) and found["abnormality F1"] == (0.0, 0.0)
    assert score(normal, "")["finding F1"] == (0.0, 1.0)  # an empty answer finds nothing, not even that


def test_every_kind_has_measures_between_0_and_1() -> None:
    items = [CHOICE, LABEL, YES, SIDE, OPEN, REPORT]
    assert {item.kind for item in items} == set(KINDS)
    for item in items:
        for numerator, denominator in score(item, "Small pleural effusion, maybe left").values():
            assert 0 <= numerator <= denominator
