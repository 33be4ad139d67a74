"""Questions in words alone: PubMedQA and MedQA. Layouts assumed:

- PubMedQA (Jin et al., arXiv 1909.06146; github.com/pubmedqa/pubmedqa): `ori_pqal.json`, an object by PubMed id of
  objects with `QUESTION`, `CONTEXTS` (a list) and `final_decision` (yes, no or maybe). The test split is the 500 ids of
  `test_ground_truth.json`, or `test_set.json` as the authors' script writes it. Hub tables with `pubid`, `question`,
  `context` (its `contexts`) and `final_decision` are read as well; they have no test split: ask for the split `train`.
- MedQA (Jin et al., arXiv 2009.13081): `test.jsonl`, or `phrases_no_exclude_test.jsonl` with four options, with
  `question`, `options` (an object by letters), `answer_idx` (a letter), and maybe `answer` (that option's text).
"""

from __future__ import annotations

from pathlib import Path

from model.answer_text import LETTERS, normalised
from model.benchmarks.items import Item, choice_prompt, label_prompt, with_pictures
from model.benchmarks.rows import Row, find_rows

__all__ = ["read_medqa", "read_pubmedqa"]

_LABELS = ("yes", "no", "maybe")
_LABELLED, _TEST_SET, _TEST_IDS = "ori_pqal", "test_set", "test_ground_truth"


def read_pubmedqa(folder: Path, split: str) -> list[Item]:
    """PubMedQA's expert-labelled questions: split `test` (500), `all` (1000), or a hub table's name.

    The reference answers' reasoning and conclusion are never part of the prompt. Raises ValueError, one sentence, for a
    row that is not right, and when the list of test ids is missing.
    """
    if split == "test" and (folder / f"{_TEST_SET}.json").is_file():
        return [_pubmedqa(row) for row in find_rows(folder, [_TEST_SET])]
    if not (folder / f"{_LABELLED}.json").is_file():
        return [_pubmedqa(row) for row in find_rows(folder, [split])]
    items = [_pubmedqa(row) for row in find_rows(folder, [_LABELLED])]
    if split != "test":
        return items
    wanted = _test_ids(folder)
    kept = [item for item in items if item.key in wanted]
    if len(kept) != len(wanted):
        raise ValueError(f"{folder / _LABELLED}.json lacks {len(wanted) - len(kept)} of the ids in {_TEST_IDS}.json; "
                         "get both files from one release")
    return kept


def _test_ids(folder: Path) -> set[str]:
    from json import loads

    path = folder / f"{_TEST_IDS}.json"
    try:
        known = loads(path.read_bytes())
    except (OSError, ValueError):
        raise ValueError(f"{path} says which questions are the test split and cannot be read; put it there, or ask for "
                         "the split `all`") from None
    if not isinstance(known, dict) or not known:
        raise ValueError(f"{path} must be an object by PubMed ids; get it again")
    return set(known)


def _pubmedqa(row: Row) -> Item:
    official = "QUESTION" in row.values
    key = row.name or row.text("pubid", numbers=True)
    if official:
        question, contexts = row.text("QUESTION"), row.texts("CONTEXTS")
    else:
        context = row.values.get("context")
        inner = Row(context if isinstance(context, dict) else {}, f"{row.where}, context", row.folder, row.number)
        question, contexts = row.text("question"), inner.texts("contexts")
    prompt = label_prompt("\n".join([*contexts, f"Question: {question}"]), _LABELS)
    return Item(key, key, "label", with_pictures(prompt, 0), row.one_of("final_decision", _LABELS), _LABELS)


def read_medqa(folder: Path, split: str) -> list[Item]:
    """MedQA's questions of a split, with as many options as its file has. Raises as `read_pubmedqa`."""
    return [_medqa(row) for row in find_rows(folder, [split, f"phrases_no_exclude_{split}"])]


def _medqa(row: Row) -> Item:
    choices = row.choices("options")
    letter = row.letter("answer_idx", choices)
    said = row.optional_text("answer")
    if said and normalised(said) != normalised(choices[LETTERS.index(letter)]):
        raise row.refusal("answer", f"is not the text of option {letter}, which answer_idx names")
    key = str(row.number)
    prompt = with_pictures(choice_prompt(row.text("question"), choices), 0)
    return Item(key, key, "choice", prompt, letter, choices)
