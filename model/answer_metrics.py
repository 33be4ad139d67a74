"""What an answer to a benchmark's question is worth: one (numerator, denominator) for each measure.

A measure over many items is the sum of the numerators over the sum of the denominators, so that means and F1 have
their intervals in the same way (`model.intervals`). All are shares, 0..1:

- `accuracy` (choice, label): the structured answer names the right option; what is malformed is wrong.
- `malformed` (choice, label): share of answers that name no option.
- `closed accuracy` (VQA with a closed-ended answer): normalised exact match; yes and no are labels, so that `yes, a
  little` is malformed and wrong.
- `open exact match`, `open token F1` (VQA with an open-ended answer): SQuAD's two, `model.answer_text`.
- `exact match` (VQA): of closed and open answers together.
- `ROUGE-L` (impression): `model.rouge`, mean over items.
- `finding F1` (impression): 2 TP / (2 TP + FP + FN) over the 14 observations that `model.chest_labels` finds present or
  uncertain in both texts, summed over items (micro); `finding F1: NAME` for each observation. Most reports are normal,
  so that No Finding alone gives a high value to a model that always says so:
- `abnormality F1` (impression): the same over the 12 observations that are neither No Finding nor Support Devices.
"""

from __future__ import annotations

from collections.abc import Mapping

from model.answer_text import LETTERS, exact_match, named_choice, named_label, token_f1
from model.benchmarks.items import Item
from model.chest_labels import affirmed, labels_of
from model.chest_terms import NO_FINDING, OBSERVATIONS, SUPPORT_DEVICES
from model.rouge import rouge_l

__all__ = ["LOWER_IS_BETTER", "PER_OBSERVATION", "Score", "score"]

Score = Mapping[str, tuple[float, float]]  # measure -> numerator, denominator

LOWER_IS_BETTER = ("malformed",)
PER_OBSERVATION = "finding F1: "


def score(item: Item, answer: str) -> Score:
    """Every measure that this kind of item has, for one answer in the model's words."""
    if item.kind in ("choice", "label"):
        return _named(item, answer)
    if item.kind == "impression":
        return _impression(item.answer, answer)
    right = _closed(item, answer) if item.kind == "closed" else exact_match(item.answer, answer)
    if item.kind == "closed":
        return {"exact match": (right, 1.0), "closed accuracy": (right, 1.0)}
    return {"exact match": (right, 1.0), "open exact match": (right, 1.0),
            "open token F1": (token_f1(item.answer, answer), 1.0)}


def _named(item: Item, answer: str) -> Score:
    if item.kind == "choice":
        found, wanted = named_choice(answer, item.choices), LETTERS.index(item.answer)
    else:
        found, wanted = named_label(answer, item.choices), item.choices.index(item.answer)
    return {"accuracy": (found == wanted, 1.0), "malformed": (found is None, 1.0)}


def _closed(item: Item, answer: str) -> bool:
    if not item.choices:
        return exact_match(item.answer, answer)
    found = named_label(answer, item.choices)
    return found is not None and exact_match(item.answer, item.choices[found])


def _impression(reference: str, answer: str) -> Score:
    wanted, found = affirmed(labels_of(reference)), affirmed(labels_of(answer))
    terms = {f"{PER_OBSERVATION}{name}": _f1_terms({name} & wanted, {name} & found) for name in OBSERVATIONS}
    others = {NO_FINDING, SUPPORT_DEVICES}
    return {"ROUGE-L": (rouge_l(reference, answer), 1.0), "finding F1": _f1_terms(wanted, found),
            "abnormality F1": _f1_terms(wanted - others, found - others), **terms}


def _f1_terms(wanted: set[str], found: set[str]) -> tuple[float, float]:
    return 2.0 * len(wanted & found), float(len(wanted) + len(found))
