"""What an answer says: normalisation, token F1, and the option that a structured answer names."""

from __future__ import annotations

import pytest

from model.answer_text import exact_match, named_choice, named_label, normalised, token_f1

CHOICES = ("Aortic dissection", "Pulmonary embolism", "Pericarditis", "Choice of none")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The  Left lung.", "left lung"), ("X-ray", "x ray"), ("An MRI, a CT", "mri ct"), ("50 %", "50 %"), ("<5", "<5"),
     ("ＣＴ", "ct"), ("", ""), ("...", ""), ("右肺", "右肺")])
def test_normalised(text: str, expected: str) -> None:
    assert normalised(text) == expected


def test_exact_match_is_never_of_nothing() -> None:
    assert exact_match("The Heart", "heart.") and not exact_match("heart", "hearts")
    assert not exact_match("", "") and not exact_match("the", "a")
    assert not exact_match("<5", ">5")


@pytest.mark.parametrize(
    ("reference", "candidate", "expected"),
    [("left lower lobe", "lower lobe", 0.8), ("the heart", "Heart", 1.0), ("heart", "lung", 0.0),
     ("a b b", "b b b", 0.8), ("right upper lobe", "upper right lobe", 1.0), ("右肺", "左肺", 0.5), ("heart", "", 0.0)])
def test_token_f1(reference: str, candidate: str, expected: float) -> None:
    assert token_f1(reference, candidate) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", 1), ("b", 1), ("(B)", 1), ("B.", 1), ("[C]", 2), ("**B**", 1), ("Answer: B", 1),
        ("The answer is (C).", 2), ("The correct option is D", 3), ("Option A", 0), ("\\boxed{C}", 2),
        ('{"answer": "B"}', 1), ("B. Pulmonary embolism", 1),
        ("(B) pulmonary embolism.", 1), ("pulmonary embolism", 1), ("Answer: Pericarditis", 2), ("choice of none", 3),
        ("B: Pulmonary Embolism", 1),
    ])  # fmt: skip
def test_a_structured_answer_names_its_option(answer: str, expected: int) -> None:
    assert named_choice(answer, CHOICES) == expected


@pytest.mark.parametrize(
    "answer",
    ["", "   ", "E", "Z", "A or B", "A, B", "B because of the filling defect", "B. Pericarditis", "I think B",
     "Pulmonary", "Aortic dissection or pericarditis", '{"answer": 3}', '{"reply": "B"}', "{" * 2000, "Answering", "1"])
def test_anything_else_is_malformed(answer: str) -> None:
    assert named_choice(answer, CHOICES) is None


def test_a_letter_wins_over_an_equal_text() -> None:
    groups = ("B", "A", "AB", "0")
    assert named_choice("A", groups) == 0 and named_choice("AB", groups) == 2


def test_labels_are_whole_words_of_their_own() -> None:
    labels = ("yes", "no", "maybe")
    assert [named_label(text, labels) for text in ("Yes.", "**no**", "Answer: maybe")] == [0, 1, 2]
    assert all(named_label(text, labels) is None for text in ("yes, a little", "yes no", "", "A", "nope"))
    assert named_label("left", ("left", "Left!", "right")) is None
