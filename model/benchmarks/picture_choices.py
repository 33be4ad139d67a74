"""Multiple choice with pictures: MedXpertQA (also its text-only half), MedFrameQA and MMMU. Layouts assumed:

- MedXpertQA (Zuo et al., arXiv 2501.18362): `MM/test.jsonl`, `MM/dev.jsonl`, `Text/test.jsonl` and `Text/dev.jsonl`
  with `id`, `question`, `options` (an object by letters), `label`, in MM `images` (names); pictures in `images/`. The
  options that the text of `question` repeats after `Answer Choices:` are cut off.
- MedFrameQA (Yu et al., arXiv 2505.16964): `test` as JSONL or Parquet with `question_id`, `question`, `options` (a list
  or an object by letters), `correct_answer` (a letter), `image_1` to `image_5`, `video_id`, which is resampled.
- MMMU (Yue et al., arXiv 2311.16502): a folder for each subject with `dev`, `validation` or `test` as JSONL or Parquet
  (or one table for all subjects) with `id`, `question`, `options` (a list, often written as a text), `answer`,
  `question_type`, `image_1` to `image_7`. The medical subjects are those of its Health & Medicine discipline. The few
  open questions are scored as open answers. MMMU-Pro's standard tables have the same keys.
"""

from __future__ import annotations

import re
from pathlib import Path

from model.benchmarks.items import Item, choice_prompt, open_prompt, with_pictures
from model.benchmarks.pictures import Picture
from model.benchmarks.rows import Row, find_rows

__all__ = ["MEDICAL_SUBJECTS", "read_medframeqa", "read_medxpertqa", "read_mmmu"]

MEDICAL_SUBJECTS = (
    "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy", "Public_Health",
)  # fmt: skip
"""MMMU's Health & Medicine."""

_REPEATED_OPTIONS = re.compile(r"\s*\n\s*Answer Choices:.*\Z", re.DOTALL)
_SUBJECT = re.compile(r"(?:dev|validation|test)_(.+)_\d+")


def read_medxpertqa(folder: Path, subset: str, split: str) -> list[Item]:
    """MedXpertQA's questions of a subset (MM or Text) and split. Raises ValueError for a row that is not right."""
    items = []
    for row in find_rows(folder / subset, [split], folder / "images"):
        pictures = row.pictures("images") if subset == "MM" else ()
        question = _REPEATED_OPTIONS.sub("", row.text("question"))
        items.append(_choice(row, row.text("id"), row.text("id"), question, "label", pictures))
    return items


def read_medframeqa(folder: Path, split: str) -> list[Item]:
    """MedFrameQA's questions. Raises as `read_medxpertqa`."""
    items = []
    for row in find_rows(folder, [split]):
        key, pictures = row.text("question_id", numbers=True), row.numbered_pictures(5)
        if len(pictures) < 2:
            raise row.refusal("image_2", "is missing: every question here has several pictures")
        group = row.optional_text("video_id", key)
        items.append(_choice(row, key, group, row.text("question"), "correct_answer", pictures))
    return items


def read_mmmu(folder: Path, split: str, subjects: tuple[str, ...]) -> list[Item]:
    """MMMU's questions of a split in `subjects`. Raises as `read_medxpertqa`, and for a subject without rows."""
    wanted = subjects or MEDICAL_SUBJECTS
    items: list[Item] = []
    whole = [] if any((folder / subject).is_dir() for subject in wanted) else find_rows(folder, [split])
    for subject in wanted:
        rows = [row for row in whole if _subject(row) == subject] if whole else find_rows(folder / subject, [split])
        if not rows:
            raise ValueError(f"{folder} holds no question of subject {subject}; leave it out of `subjects`")
        items += [_mmmu(row) for row in rows]
    return items


def _mmmu(row: Row) -> Item:
    key, question, pictures = row.text("id"), row.text("question"), row.numbered_pictures(7)
    if row.optional_text("question_type", "multiple-choice") == "multiple-choice":
        return _choice(row, key, key, question, "answer", pictures)
    prompt = with_pictures(open_prompt(question), len(pictures))
    return Item(key, key, "open", prompt, row.text("answer", numbers=True), (), pictures)


def _subject(row: Row) -> str:
    found = _SUBJECT.fullmatch(row.text("id"))
    return row.optional_text("subject", found[1] if found else "")


def _choice(row: Row, key: str, group: str, question: str, answer: str, pictures: tuple[Picture, ...]) -> Item:
    choices = row.choices("options")
    prompt = with_pictures(choice_prompt(question, choices), len(pictures))
    return Item(key, group, "choice", prompt, row.letter(answer, choices), choices, pictures)
