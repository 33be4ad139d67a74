"""Which benchmarks can be read, and how: a name in a configuration file leads to a reader. Imports no reader itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.benchmarks.items import Item

__all__ = ["FORMATS", "FORMATS_WITHOUT_FOLDER", "read_items"]

FORMATS = ("vqa-rad", "slake", "path-vqa", "medxpertqa-mm", "medxpertqa-text", "medframeqa", "mmmu-med", "pubmedqa",
           "medqa", "chest-reports")  # fmt: skip
FORMATS_WITHOUT_FOLDER = ("chest-reports",)
"""Read from an installed package."""


def read_items(
    name: str, folder: Path | None, *, split: str, language: str = "en", subjects: tuple[str, ...] = (), fold: int = 0,
    seed: int = 0,
) -> list[Item]:
    """Every question of a benchmark's split, each row checked; pictures are not opened yet.

    Raises ValueError, one sentence with file, line and key, for anything that is not as the format says, for a key that
    occurs twice, and for a split without questions.
    """
    from model.benchmarks.rows import MAX_EMBEDDED_BYTES

    items = _read(name, folder, split, language, subjects, fold, seed)
    if not items:
        raise ValueError(f"{folder or name} holds no question of the split {split}; name another split")
    (key, times), *_ = Counter(item.key for item in items).most_common(1)
    if times > 1:
        raise ValueError(f"{folder}: the question {key} occurs {times} times; get the benchmark's file again")
    held = sum(picture.size_bytes for item in items for picture in item.pictures if picture.data is not None)
    if held > MAX_EMBEDDED_BYTES:
        raise ValueError(f"{folder} holds more than {MAX_EMBEDDED_BYTES >> 30} GiB of pictures in its tables; export "
                         "them as JSONL with pictures as files")
    return items


def _read(
    name: str, folder: Path | None, split: str, language: str, subjects: tuple[str, ...], fold: int, seed: int
) -> list[Item]:
    if name == "chest-reports":
        from model.benchmarks.chest_reports import read_chest_reports

        return read_chest_reports(split, fold, seed)
    if folder is None:
        raise ValueError(f"benchmark {name} is read from a folder; name its local copy with --data")
    from model.benchmarks import open_vqa, picture_choices, text_qa

    readers = {
        "vqa-rad": lambda: open_vqa.read_vqa_rad(folder, split),
        "slake": lambda: open_vqa.read_slake(folder, split, language),
        "path-vqa": lambda: open_vqa.read_path_vqa(folder, split),
        "medxpertqa-mm": lambda: picture_choices.read_medxpertqa(folder, "MM", split),
        "medxpertqa-text": lambda: picture_choices.read_medxpertqa(folder, "Text", split),
        "medframeqa": lambda: picture_choices.read_medframeqa(folder, split),
        "mmmu-med": lambda: picture_choices.read_mmmu(folder, split, subjects),
        "pubmedqa": lambda: text_qa.read_pubmedqa(folder, split),
        "medqa": lambda: text_qa.read_medqa(folder, split),
    }
    return readers[name]()
