"""Visual questions with short answers in words: VQA-RAD, SLAKE and PathVQA. Layouts assumed:

- VQA-RAD (Lau et al., Scientific Data 5:180251, 2018; osf.io/89kps): `VQA_RAD Dataset Public.json`, a list of objects
  with `qid`, `image_name`, `question`, `answer` (a text or a number), `answer_type` (OPEN or CLOSED), `phrase_type`
  (`test_freeform` and `test_para` are the test split); pictures in `VQA_RAD Image Folder/`.
- SLAKE (Liu et al., arXiv 2102.09542): `test.json`, `validation.json` or `train.json`, lists of objects with `qid`,
  `img_id`, `img_name`, `question`, `answer`, `q_lang` (en or zh), `answer_type`; pictures in `imgs/`.
- PathVQA (He et al., arXiv 2003.10286), and VQA-RAD as on dataset hubs: `SPLIT.jsonl` or Parquet with `image`,
  `question`, `answer`. The pickles of PathVQA's first publication are not opened: a pickle can run code.

An answer counts as closed-ended where the benchmark says so, or, where it does not say, when it is yes or no. Pictures
are what is resampled: the questions about one are alike (in VQA-RAD each is a patient of its own).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from model.answer_text import normalised
from model.benchmarks.items import Item, label_prompt, open_prompt, with_pictures
from model.benchmarks.pictures import Picture
from model.benchmarks.rows import Row, find_rows

__all__ = ["read_path_vqa", "read_slake", "read_vqa_rad"]

_PUBLIC = "VQA_RAD Dataset Public"
_RAD_FOLDER, _SLAKE_FOLDER = "VQA_RAD Image Folder", "imgs"
_YES_NO = ("yes", "no")


def read_vqa_rad(folder: Path, split: str) -> list[Item]:
    """VQA-RAD's questions of a split (train or test). Raises ValueError, one sentence, for a row that is not right."""
    rows = find_rows(folder, [_PUBLIC, split])
    if "phrase_type" not in rows[0].values:
        return [_plain(row) for row in rows]
    test = split == "test"
    kept = [row for row in rows if row.text("phrase_type").startswith("test") == test]
    return [_vqa(row, f"{row.optional_text('qid')}-{row.number}", row.picture("image_name", _RAD_FOLDER),
                 row.text("image_name"), _answer_type(row)) for row in kept]


def read_slake(folder: Path, split: str, language: str) -> list[Item]:
    """SLAKE's questions of a split in `language`, en or zh. Raises as `read_vqa_rad`."""
    stems = ["validation", "validate"] if split == "validation" else [split]
    rows = [row for row in find_rows(folder, stems) if row.one_of("q_lang", ("en", "zh")) == language]
    return [_vqa(row, row.optional_text("qid", str(row.number)), row.picture("img_name", _SLAKE_FOLDER),
                 row.optional_text("img_id") or row.text("img_name"), _answer_type(row), language == "zh")
            for row in rows]


def read_path_vqa(folder: Path, split: str) -> list[Item]:
    """PathVQA's questions of a split. Raises as `read_vqa_rad`."""
    return [_plain(row) for row in find_rows(folder, [split])]


def _plain(row: Row) -> Item:
    """A row of picture, question and answer, and nothing else."""
    picture = row.picture("image")
    closed = normalised(row.text("answer", numbers=True)) in _YES_NO
    return _vqa(row, str(row.number), picture, _name_of(picture), "closed" if closed else "open")


def _answer_type(row: Row) -> str:
    return row.one_of("answer_type", ("open", "closed"))


def _name_of(picture: Picture) -> str:
    """What tells one picture from another: its bytes where a table holds them, else its file."""
    return picture.name if picture.data is None else hashlib.sha256(picture.data).hexdigest()[:16]


def _vqa(row: Row, key: str, picture: Picture, group: str, kind: str, chinese: bool = False) -> Item:
    question, answer = row.text("question"), row.text("answer", numbers=True)
    yes_no: Sequence[str] = _YES_NO if kind == "closed" and normalised(answer) in _YES_NO else ()
    prompt = label_prompt(question, yes_no) if yes_no else open_prompt(question, chinese)
    return Item(key, group, kind, with_pictures(prompt, 1), answer, tuple(yes_no), (picture,))
