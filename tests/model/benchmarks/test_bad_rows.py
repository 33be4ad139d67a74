"""A row that is not right is one sentence with file, line, key and fix; pictures stay inside the folder."""

from __future__ import annotations

import builtins
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.benchmarks import pictures, rows
from model.benchmarks.formats import read_items
from model.benchmarks.rows import find_rows
from tests.model.benchmarks.conftest import make_medframeqa, make_medqa, make_path_vqa, make_slake, paint, write_lines

GOOD = {"image": "a.png", "question": "Q?", "answer": "yes"}
MEDQA = {"question": "Q?", "options": {"A": "x", "B": "y"}, "answer_idx": "A"}


def refusal(name: str, folder: Path, split: str = "test") -> str:
    with pytest.raises(ValueError) as caught:
        read_items(name, folder, split=split)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"question": "Q?", "answer": "yes"}, "key image must name a picture's file; correct the row, or get"),
        ({**GOOD, "question": "  "}, "key question must hold a text that is not empty"),
        ({**GOOD, "question": ["a"]}, "key question must hold a text"),
        ({**GOOD, "answer": True}, "key answer must hold a text"),
        ({**GOOD, "question": "x" * 200_000}, "key question is longer than 100000 characters"),
        ({**GOOD, "image": "../a.png"}, "must be a name inside"),
        ({**GOOD, "image": "/etc/passwd"}, "must be a name inside"),
        ({**GOOD, "image": "..\\a.png"}, "must be a name inside"),
        ({**GOOD, "image": "b.png"}, "picture b.png is not in"),
        ({**GOOD, "image": "."}, "is no file"),
        ([1], "must be an object of keys and values"),
    ])  # fmt: skip
def test_a_bad_row_of_a_picture_question(tmp_path: Path, row: Any, expected: str) -> None:
    paint(tmp_path / "a.png", 0)
    write_lines(tmp_path / "test.jsonl", [GOOD, row])
    text = refusal("path-vqa", tmp_path)
    assert expected in text and text.startswith("test.jsonl, line 2: ")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"answer_idx": "C"}, "key answer_idx must be a letter from A to B"),
        ({"answer_idx": "AB"}, "must be a letter"), ({"answer_idx": 1}, "key answer_idx must hold a text"),
        ({"options": {"A": "x"}}, "must hold 2 to 26 options"), ({"options": {"A": "x", "C": "y"}}, "without a gap"),
        ({"options": {"A": "x", "B": ["y"]}}, "options: key B must hold a text"),
        ({"options": "x, y"}, "a list of texts"),
        ({"options": "[" * 5000}, "a list of texts"), ({"options": ["x", ""]}, "texts that are not empty"),
        ({"options": None}, "a list of texts"), ({"answer": "y"}, "is not the text of option A"),
    ])  # fmt: skip
def test_bad_options(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    write_lines(tmp_path / "test.jsonl", [{**MEDQA, **change}])
    assert expected in refusal("medqa", tmp_path)


def test_values_of_a_fixed_list(tmp_path: Path) -> None:
    folder = make_slake(tmp_path)
    data = json.loads((folder / "test.json").read_text())
    data[1]["answer_type"] = "BOTH"
    (folder / "test.json").write_text(json.dumps(data))
    assert "test.json, entry 2: key answer_type must be one of open, closed" in refusal("slake", folder)


def test_frames_without_a_gap_and_more_than_one(tmp_path: Path) -> None:
    folder = make_medframeqa(tmp_path)
    row = json.loads((folder / "test.jsonl").read_text().splitlines()[0])
    write_lines(folder / "test.jsonl", [{**row, "image_1": None}])
    assert "key image_1 is missing though a later picture is there" in refusal("medframeqa", folder)
    write_lines(folder / "test.jsonl", [{**row, "image_2": None}])
    assert "every question here has several pictures" in refusal("medframeqa", folder)
    write_lines(folder / "test.jsonl", [row, row])
    assert "the question q1 occurs 2 times" in refusal("medframeqa", folder)


@pytest.mark.parametrize("text", ["{", '{"a": 1}\n[', "\xff", '{"a": ' + "[" * 100_000])
def test_lines_that_are_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "test.jsonl").write_bytes(text.encode("latin-1"))
    assert "is not valid JSON" in refusal("medqa", tmp_path) or "must hold" in refusal("medqa", tmp_path)


def test_a_line_and_a_file_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(tmp_path / "test.jsonl", [{**MEDQA, "question": "x" * 3000}])
    monkeypatch.setattr(rows, "MAX_LINE_BYTES", 1000)
    assert "line 1: is longer" in refusal("medqa", tmp_path)
    (tmp_path / "test.jsonl").unlink()
    (tmp_path / "test.json").write_text(json.dumps([MEDQA]))
    monkeypatch.setattr(rows, "MAX_JSON_BYTES", 10)
    assert "give it as JSONL" in refusal("medqa", tmp_path)


def test_no_file_no_folder_no_row_and_mixed_files(tmp_path: Path) -> None:
    assert "is not a folder" in refusal("medqa", tmp_path / "nowhere")
    assert "expected one of test{.jsonl,.json,.parquet}, phrases_no_exclude_test{" in refusal("medqa", tmp_path)
    (tmp_path / "test.jsonl").write_text("\n\n")
    assert "holds no row" in refusal("medqa", tmp_path)
    make_medqa(tmp_path)
    write_lines(tmp_path / "phrases_no_exclude_test.jsonl", [MEDQA])
    assert "which would be mixed; keep one of them" in refusal("medqa", tmp_path)
    assert "holds no question of the split" in _empty_split(tmp_path / "slake")


def _empty_split(folder: Path) -> str:
    make_slake(folder)
    data = [row for row in json.loads((folder / "test.json").read_text()) if row["q_lang"] == "zh"]
    (folder / "test.json").write_text(json.dumps(data))
    return refusal("slake", folder)


def test_a_link_may_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    folder = make_path_vqa(tmp_path / "copy")
    paint(tmp_path / "private.png", 0)
    (folder / "images" / "a.png").unlink()
    (folder / "images" / "a.png").symlink_to(tmp_path / "private.png")
    assert "is a link out of" in refusal("path-vqa", folder)


def bitmap(mode: str = "RGB", **saving: Any) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (30, 20)).save(stream, **{"format": "PNG", **saving})
    return stream.getvalue()


DAMAGED: dict[str, tuple[bytes, str]] = {
    "text": (b"hello", "is not a PNG or JPEG"), "empty": (b"", "is not a PNG or JPEG"),
    "gif": (bitmap("P", format="GIF"), "is not a PNG or JPEG"), "16 bits": (bitmap("I;16"), "8 bits a channel"),
    "animated": (bitmap(save_all=True, append_images=[Image.new("RGB", (30, 20), "red")]), "not one picture"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_pictures_that_cannot_be_used(tmp_path: Path, kind: str) -> None:
    data, expected = DAMAGED[kind]
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=expected) as caught:
        pictures.in_folder(tmp_path, "a.png", "test.jsonl, line 3").check()
    assert str(caught.value).startswith("test.jsonl, line 3: picture a.png ")


def test_a_picture_cut_off_is_told_when_it_is_decoded(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, format="PNG")
    picture = pictures.embedded(stream.getvalue()[:3000], "image", "test.parquet, row 1")
    picture.check()
    with pytest.raises(ValueError, match="is damaged and cannot be decoded"):
        picture.pixels()


def test_sizes_are_bounded_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(bitmap())
    picture = pictures.in_folder(tmp_path, "a.png", "w")
    for name, value, expected in (("MAX_SIDE_PIXELS", 29, "30 x 20 pixels"), ("MAX_PIXELS", 599, "too large"),
                                  ("MAX_FILE_BYTES", 10, "is larger than")):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(pictures, name, value)
            with pytest.raises(ValueError, match=expected):
                picture.check()
    picture.check()


def test_transparent_parts_lie_on_white() -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(stream, format="PNG")
    assert (pictures.embedded(stream.getvalue(), "p", "w").pixels() == 255).all()


def test_parquet_without_pyarrow_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    real = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "needs the package pyarrow; install it, or export the table as JSONL" in refusal("medqa", tmp_path)


@pytest.fixture
def write_table() -> Callable[[Path, list[dict[str, Any]]], None]:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    return lambda path, values: parquet.write_table(pyarrow.Table.from_pylist(values), path)


def test_parquet_shards_with_embedded_pictures(tmp_path: Path, write_table: Callable[..., None]) -> None:
    (tmp_path / "data").mkdir()
    for number, answer in enumerate(("yes", "a block")):
        image = {"bytes": bitmap(), "path": None}
        write_table(tmp_path / "data" / f"test-0000{number}-of-00002.parquet",
                    [{"image": image, "question": f"Q{number}?", "answer": answer}])  # fmt: skip
    first, second = read_items("path-vqa", tmp_path, split="test")
    assert (first.kind, second.kind) == ("closed", "open")
    assert first.pictures[0].pixels().shape == (20, 30, 3) and first.group == second.group
    (tmp_path / "test.jsonl").write_text("{}\n")
    assert "which would be mixed" in refusal("path-vqa", tmp_path)


def test_parquet_that_is_damaged_or_holds_too_much(
    tmp_path: Path, write_table: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test.parquet").write_bytes(b"PAR1nothing")
    assert "cannot be read as Parquet" in refusal("path-vqa", tmp_path)
    image = {"bytes": bitmap(), "path": "p"}
    write_table(tmp_path / "test.parquet", [{"image": image, "question": "Q?", "answer": "yes"}])
    monkeypatch.setattr(rows, "MAX_EMBEDDED_BYTES", 10)
    assert "export" in refusal("path-vqa", tmp_path)


def test_rows_keep_their_place(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [(row.where, row.number) for row in find_rows(tmp_path, ["test"])] == [
        ("test.jsonl, line 1", 0), ("test.jsonl, line 3", 1)]
