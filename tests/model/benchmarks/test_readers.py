"""Every benchmark in its published layout becomes the questions that a model is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.benchmarks.chest_reports import load_reports, read_chest_reports
from model.benchmarks.formats import FORMATS, FORMATS_WITHOUT_FOLDER, read_items
from model.benchmarks.items import Item, fingerprint, selected, with_pictures
from model.benchmarks.pictures import Picture
from simulations.partition import draw_split
from tests.model.benchmarks.conftest import MAKERS, paint, write_lines, write_list

Made = Callable[[str], Path]


def read(name: str, folder: Path, **more: object) -> list[Item]:
    return read_items(name, folder, **{"split": "test", **more})  # type: ignore[arg-type]


def test_every_format_has_a_local_copy_here() -> None:
    assert set(MAKERS) | set(FORMATS_WITHOUT_FOLDER) == set(FORMATS)


@pytest.mark.parametrize("name", MAKERS)
def test_prompts_have_a_place_for_each_picture_and_pictures_decode(made: Made, name: str) -> None:
    folder = made(name)
    items = read(name, folder, split="validation" if name == "mmmu-med" else "test",
                 subjects=("Clinical_Medicine", "Pharmacy") if name == "mmmu-med" else ())  # fmt: skip
    assert len({item.key for item in items}) == len(items) >= 1
    for item in items:
        assert item.prompt.count("<image>") == len(item.pictures)
        assert item.kind != "choice" or item.answer in "ABCDEFGHIJ"[: len(item.choices)]
        for picture in item.pictures:
            picture.check()
            assert picture.pixels().shape == (24, 36, 3) and picture.pixels().dtype == np.uint8


def test_vqa_rad(made: Made) -> None:
    folder = made("vqa-rad")
    closed, number, side = read("vqa-rad", folder)
    assert (closed.kind, closed.answer, closed.choices, closed.group) == ("closed", "Yes", ("yes", "no"), "one.jpg")
    assert closed.prompt == "<image>\nIs the square red?\nAnswer with one word only: yes or no."
    assert (number.kind, number.answer, number.choices) == ("open", "4", ())
    assert (side.kind, side.answer, side.choices) == ("closed", "left", ())
    assert [item.answer for item in read("vqa-rad", folder, split="train")] == ["no"]


def test_slake_has_two_languages(made: Made) -> None:
    folder = made("slake")
    open_item, closed = read("slake", folder)
    assert (open_item.kind, closed.kind, closed.choices, closed.group) == ("open", "closed", ("yes", "no"), "7")
    (chinese,) = read("slake", folder, language="zh")
    assert chinese.answer == "没有" and "请" in chinese.prompt


def test_path_vqa_tells_closed_from_open_by_the_answer(made: Made) -> None:
    items = read("path-vqa", made("path-vqa"))
    assert [item.kind for item in items] == ["closed", "open", "closed"]
    assert items[0].group == items[1].group != items[2].group


def test_medxpertqa(made: Made) -> None:
    folder = made("medxpertqa-mm")
    first, second = read("medxpertqa-mm", folder)
    assert first.prompt.startswith("<image_1>: <image>\n<image_2>: <image>\nA painter brings it.")
    assert "Answer Choices" not in first.prompt and "B. A blue block" in first.prompt
    assert (first.answer, second.answer, len(first.pictures)) == ("B", "C", 2)
    (text,) = read("medxpertqa-text", folder)
    assert (text.answer, text.choices[1], text.pictures) == ("B", "green", ())


def test_medframeqa_groups_by_video_and_drops_the_options_own_letters(made: Made) -> None:
    first, second = read("medframeqa", made("medframeqa"))
    assert first.group == second.group == "v1" and first.key != second.key
    assert first.choices == ("The colour", "The size", "Nothing")
    assert "From <image_1> to <image_2>, what changed?" in first.prompt


def test_mmmu_by_subject_folder_and_as_one_table(made: Made) -> None:
    folder = made("mmmu-med")
    subjects = ("Clinical_Medicine", "Pharmacy")
    choice, counted, *_ = read("mmmu-med", folder, split="validation", subjects=subjects)
    assert choice.choices == ("the left", "the painter's", "<image 2>") and choice.kind == "choice"
    assert "C. <image_2>" in choice.prompt and counted.kind == "open" and counted.answer == "24"
    rows = [json.loads(line) for line in (folder / "Pharmacy" / "validation.jsonl").read_text().splitlines()]
    write_lines(folder / "one" / "validation.jsonl", rows)
    for name in ("x.png", "y.png"):
        paint(folder / "one" / name, 1)
    assert len(read("mmmu-med", folder / "one", split="validation", subjects=("Pharmacy",))) == 2
    with pytest.raises(ValueError, match="no question of subject Clinical_Medicine"):
        read("mmmu-med", folder / "one", split="validation", subjects=subjects)


def test_pubmedqa_takes_the_official_test_ids_and_never_shows_the_conclusion(made: Made) -> None:
    folder = made("pubmedqa")
    first, second = read("pubmedqa", folder)
    assert [item.key for item in (first, second)] == ["101", "103"] and second.answer == "maybe"
    assert first.prompt.endswith("Question: Does paint 101 dry?\nAnswer with one word only: yes, no or maybe.")
    assert "We painted." in first.prompt and "secret" not in first.prompt
    assert len(read("pubmedqa", folder, split="all")) == 3
    write_list(folder / "test_ground_truth.json", {"101": "yes", "999": "no"})
    with pytest.raises(ValueError, match="lacks 1 of the ids"):
        read("pubmedqa", folder)
    (folder / "test_ground_truth.json").unlink()
    with pytest.raises(ValueError, match="ask for the split `all`"):
        read("pubmedqa", folder)


def test_pubmedqa_of_a_hub(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [{"pubid": 5, "question": "Q?", "context": {"contexts": ["C."]},
                                            "final_decision": "no"}])  # fmt: skip
    (item,) = read("pubmedqa", tmp_path, split="train")
    assert (item.key, item.answer) == ("5", "no") and "C.\nQuestion: Q?" in item.prompt


def test_medqa_has_four_or_five_options(made: Made) -> None:
    first, second = read("medqa", made("medqa"))
    assert (first.answer, len(first.choices), second.answer, len(second.choices)) == ("D", 5, "A", 4)


def test_a_text_question_that_speaks_of_images_has_no_place_for_one(tmp_path: Path) -> None:
    write_lines(tmp_path / "test.jsonl", [{"question": "What is <image>?", "options": {"A": "<image>", "B": "x"},
                                           "answer_idx": "A"}])  # fmt: skip
    (item,) = read("medqa", tmp_path)
    assert "<image>" not in item.prompt and "What is [image]?" in item.prompt


def test_chest_reports_hold_a_fifth_of_the_patients_out_and_name_them_by_hashes() -> None:
    folds = [read_chest_reports("test", fold, seed=0) for fold in range(5)]
    keys = [item.key for fold in folds for item in fold]
    assert len(keys) == len(set(keys)) == 3419 and all(600 < len(fold) < 770 for fold in folds)
    assert not any("CXR" in item.key for item in folds[0]) and len(folds[0][0].key) == 16
    other = {item.prompt for item in read_chest_reports("test", 0, seed=1)}
    assert other != {item.prompt for item in folds[0]}


@pytest.mark.parametrize("fold", [0, 3])
def test_the_simulations_test_patients_are_those_that_no_simulation_trained_on(fold: int) -> None:
    reports = load_reports()
    split = draw_split(len(reports), 400, 600, fold, np.random.default_rng(0), None)
    items = read_chest_reports("simulation-test", fold, seed=0)
    assert [item.answer for item in items] == [reports[index].impression for index in split.test]
    held_out = {item.prompt for item in items}
    trained = {f"Findings: {reports[index].findings} Write the impression." for index in split.private}
    assert len(held_out & trained) < 0.2 * len(held_out)  # short normal reports are written alike


def test_chest_reports_of_an_unknown_split() -> None:
    with pytest.raises(ValueError, match=r"splits test, simulation-test and the folds 0 to 4, not train and 0"):
        read_chest_reports("train", 0, 0)


def test_a_limit_keeps_the_questions_of_a_smaller_one() -> None:
    items = [Item(str(number), "g", "open", "q", "a") for number in range(50)]
    some, more = (selected(items, limit, seed=0) for limit in (10, 20))
    assert len(some) == 10 and {item.key for item in some} < {item.key for item in more}
    assert [int(item.key) for item in more] == sorted(int(item.key) for item in more)
    assert selected(items, 10, seed=1) != some and selected(items, 0, 0) == items == selected(items, 99, 0)


def test_a_text_has_no_places_for_pictures_of_its_own() -> None:
    assert with_pictures("What is <image> in <image 2>?", 1) == "<image>\nWhat is [image] in <image_2>?"
    assert with_pictures("plain <image>", 0) == "plain [image]"


def test_the_fingerprint_sees_every_part_of_a_question() -> None:
    item = Item("k", "g", "choice", "q", "A", ("x", "y"), (Picture("p", "row", 3),))
    changed = [replace(item, **change) for change in (
        {"key": "l"}, {"group": "h"}, {"kind": "open"}, {"prompt": "r"}, {"answer": "B"}, {"choices": ("x", "z")},
        {"pictures": (Picture("p", "row", 4),)})]  # fmt: skip
    assert len({fingerprint([one]) for one in (item, *changed)}) == 8
