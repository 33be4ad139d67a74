"""Tiny local copies of every benchmark: our own made-up questions and painted pictures, in the published layouts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Make = Callable[[Path], Path]


def paint(path: Path, seed: int, mode: str = "RGB") -> None:
    """A small picture of coloured blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((36, 24), Image.Resampling.NEAREST).convert(mode).save(path)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_list(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")


def make_vqa_rad(folder: Path) -> Path:
    rows = [
        {"qid": 1, "image_name": "one.jpg", "question": "Is the square red?", "answer": "Yes", "answer_type": "CLOSED ",
         "phrase_type": "test_freeform"},
        {"qid": 2, "image_name": "one.jpg", "question": "How many squares are there?", "answer": 4,
         "answer_type": "OPEN", "phrase_type": "test_para"},
        {"qid": 3, "image_name": "two.jpg", "question": "Which side is darker, left or right?", "answer": "left",
         "answer_type": "CLOSED", "phrase_type": "test_freeform"},
        {"qid": 4, "image_name": "two.jpg", "question": "Is it blue?", "answer": "no", "answer_type": "CLOSED",
         "phrase_type": "freeform"}]  # fmt: skip
    write_list(folder / "VQA_RAD Dataset Public.json", rows)
    paint(folder / "VQA_RAD Image Folder" / "one.jpg", 1, "CMYK")
    paint(folder / "VQA_RAD Image Folder" / "two.jpg", 2)
    return folder


def make_slake(folder: Path) -> Path:
    shared = {"img_id": 7, "img_name": "xmlab7/source.jpg", "location": "Nowhere", "modality": "Paint",
              "base_type": "vqa", "content_type": "Colour", "triple": ["vhead", "_", "_"]}  # fmt: skip
    rows = [
        {**shared, "qid": 10, "q_lang": "en", "question": "What was used to make this picture?", "answer": "Paint",
         "answer_type": "OPEN"},
        {**shared, "qid": 11, "q_lang": "en", "question": "Is there a circle?", "answer": "No",
         "answer_type": "CLOSED"},
        {**shared, "qid": 12, "q_lang": "zh", "question": "图中有圆吗？", "answer": "没有", "answer_type": "CLOSED"}]
    write_list(folder / "test.json", rows)
    paint(folder / "imgs" / "xmlab7" / "source.jpg", 3)
    return folder


def make_path_vqa(folder: Path) -> Path:
    write_lines(folder / "test.jsonl", [
        {"image": "images/a.png", "question": "Are the blocks stained?", "answer": "yes"},
        {"image": "images/a.png", "question": "What is seen in the corner?", "answer": "a green block"},
        {"image": "images/b.png", "question": "Are there cells?", "answer": "no"}])  # fmt: skip
    for name, seed in (("a", 4), ("b", 5)):
        paint(folder / "images" / f"{name}.png", seed)
    return folder


def make_medxpertqa(folder: Path) -> Path:
    options = {"A": "A red block", "B": "A blue block", "C": "A green block"}
    question = "A painter brings it. What is on top?\nAnswer Choices: (A) A red block (B) A blue block (C) ..."
    shared = {"options": options, "medical_task": "Painting", "body_system": "None", "question_type": "Reasoning"}
    write_lines(folder / "MM" / "test.jsonl", [
        {"id": "MM-1", "question": question, "label": "B", "images": ["MM-1-a.jpeg", "MM-1-b.jpeg"], **shared},
        {"id": "MM-2", "question": question, "label": "C", "images": ["MM-2-a.jpeg"], **shared}])  # fmt: skip
    write_lines(folder / "Text" / "test.jsonl", [
        {"id": "Text-1", "question": "Which colour mixes from blue and yellow?", "label": "B",
         "options": {"A": "red", "B": "green", "C": "black", "D": "white"}}])  # fmt: skip
    for seed, name in enumerate(("MM-1-a", "MM-1-b", "MM-2-a"), start=6):
        paint(folder / "images" / f"{name}.jpeg", seed)
    return folder


def make_medframeqa(folder: Path) -> Path:
    rows = [
        {"question_id": f"q{number}", "video_id": "v1", "question": "From <image 1> to <image 2>, what changed?",
         "options": ["A. The colour", "B. The size", "C. Nothing"], "correct_answer": "A",
         "image_1": "f1.png", "image_2": "f2.png", "image_3": None}
        for number in (1, 2)]  # fmt: skip
    write_lines(folder / "test.jsonl", rows)
    paint(folder / "f1.png", 9)
    paint(folder / "f2.png", 10)
    return folder


def make_mmmu(folder: Path) -> Path:
    for number, subject in enumerate(("Clinical_Medicine", "Pharmacy")):
        write_lines(folder / subject / "validation.jsonl", [
            {"id": f"validation_{subject}_1", "question": "<image 1> Which block is meant?",
             "options": "['the left', \"the painter's\", '<image 2>']", "answer": "C", "explanation": "?",
             "question_type": "multiple-choice", "image_1": "x.png", "image_2": "y.png"},
            {"id": f"validation_{subject}_2", "question": "How many blocks?", "options": "[]", "answer": "24",
             "question_type": "open", "image_1": "x.png"}])  # fmt: skip
        paint(folder / subject / "x.png", 11 + number)
        paint(folder / subject / "y.png", 13 + number)
    return folder


def make_pubmedqa(folder: Path) -> Path:
    rows = {
        str(number): {"QUESTION": f"Does paint {number} dry?", "CONTEXTS": ["We painted.", "We waited."],
                      "LABELS": ["METHODS", "RESULTS"], "MESHES": ["Paint"], "YEAR": "2020",
                      "reasoning_required_pred": "no", "reasoning_free_pred": "no", "final_decision": decision,
                      "LONG_ANSWER": "The conclusion is secret."}
        for number, decision in ((101, "yes"), (102, "no"), (103, "maybe"))}  # fmt: skip
    write_list(folder / "ori_pqal.json", rows)
    write_list(folder / "test_ground_truth.json", {"101": "yes", "103": "maybe"})
    return folder


def make_medqa(folder: Path) -> Path:
    write_lines(folder / "test.jsonl", [
        {"question": "A painter coughs. Best next step?", "answer": "Open a window", "meta_info": "step1",
         "answer_idx": "D", "options": {"A": "Paint", "B": "Sing", "C": "Sleep", "D": "Open a window", "E": "Shout"}},
        {"question": "A second painter coughs. Why?", "answer_idx": "A", "meta_info": "step2&3",
         "options": {"A": "Dust", "B": "Noise", "C": "Light", "D": "Cold"}}])  # fmt: skip
    return folder


MAKERS: dict[str, Make] = {
    "vqa-rad": make_vqa_rad, "slake": make_slake, "path-vqa": make_path_vqa, "medxpertqa-mm": make_medxpertqa,
    "medxpertqa-text": make_medxpertqa, "medframeqa": make_medframeqa, "mmmu-med": make_mmmu,
    "pubmedqa": make_pubmedqa, "medqa": make_medqa,
}  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Path]:
    """Make the local copy of a benchmark by its name."""
    return lambda name: MAKERS[name](tmp_path / name)
