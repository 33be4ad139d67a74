"""Safetensors files that lie, are cut, are pickled or leave their folder: one sentence, and nothing is allocated."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.weights_file import (
    HEADER_LIMIT,
    INDEX,
    listed,
    read_header,
    read_json,
    read_tensor,
    stored_tensors,
    weight_files,
)

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TERABYTE = 1 << 40
SMALL = 3 << 20  # bytes that a refusal may take: the buffer that JSON is read into, and little more


def raw(path: Path, header: Any, data: int = 8, *, size: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + bytes(data))
    return path


def refusal(call: Callable[[], object], limit: int = SMALL) -> str:
    """The sentence with which `call` ends, having taken no more than `limit` bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            call()
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and len(text) < 2000
    return text


def test_reads_what_the_library_wrote_and_nothing_else(tmp_path: Path) -> None:
    values = {"a": torch.randn(3, 5), "b": torch.randn(4, 2, 3).bfloat16(), "scalar": torch.tensor(2.5),
              "none": torch.empty(0, 7), "bytes": torch.arange(9, dtype=torch.uint8),
              "yes": torch.tensor([True, False]), "long": torch.arange(5),
              "half": torch.randn(3).half(), "double": torch.randn(2, 2).double()}
    save_file(values, tmp_path / "x.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path / "x.safetensors")
    assert header.keys() == values.keys()
    for name, value in values.items():
        found = read_tensor(header[name])
        assert found.dtype == value.dtype and torch.equal(found, value)
    assert torch.equal(read_tensor(header["b"], 2), values["b"][2])
    assert torch.equal(read_tensor(header["bytes"], 4), values["bytes"][4])


@pytest.mark.parametrize(
    ("header", "data", "text"),
    [({"a": {"dtype": "F32", "shape": [TERABYTE // 4], "data_offsets": [0, TERABYTE]}}, 8, "describes 1099511627"),
     ({"a": ONE}, 7, "its header describes"), ({"a": ONE}, 9, "1 bytes at its end belong to no tensor"),
     ({"a": ONE | {"shape": [3]}}, 8, "does not take the bytes"),
     ({"a": ONE | {"shape": [1 << 62, 1 << 62]}}, 8, "does not take the bytes"),
     ({"a": ONE | {"data_offsets": [8, 0]}}, 8, "does not take the bytes"),
     ({"a": ONE | {"data_offsets": [-8, 0]}}, 8, "no sizes"), ({"a": ONE | {"shape": [-2]}}, 8, "no sizes"),
     ({"a": ONE | {"shape": [2.0]}}, 8, "no sizes"), ({"a": ONE | {"shape": [True, 2]}}, 8, "no sizes"),
     ({"a": ONE | {"shape": [1] * 9}}, 8, "no sizes"), ({"a": ONE | {"data_offsets": [0, 4, 8]}}, 8, "no sizes"),
     ({"a": ONE | {"shape": "2"}}, 8, "no sizes"), ({"a": ONE | {"dtype": "C64"}}, 8, "unknown type"),
     ({"a": ONE | {"dtype": ["F32"]}}, 8, "unknown type"), ({"a": ONE | {"more": 1}}, 8, "needs dtype"),
     ({"a": [1]}, 8, "needs dtype"), ({"a": ONE, "b": ONE}, 8, "overlaps"),
     ({"a": ONE, "b": ONE | {"data_offsets": [12, 20]}}, 20, "leaves a hole"),
     ({"a": ONE | {"data_offsets": [4, 12]}}, 12, "leaves a hole"),
     ({"a" * 5000: ONE | {"shape": [3]}}, 8, "does not take the bytes"),
     (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": {}}', 8, "'a' twice"),
     (b'{"a": {"dtype": "F32", "dtype": "U8", "shape": [2], "data_offsets": [0, 8]}}', 8, "'dtype' twice"),
     (b"[" * 100_000, 8, "malformed"), (b'{"a": ', 8, "malformed"), (b"\xff\xfe", 8, "malformed"),
     (b"[]", 8, "no object"), (b'{"a": ' + b"9" * 5000 + b"}", 8, "malformed")])
def test_a_header_that_lies_is_refused_before_anything_is_allocated(
    tmp_path: Path, header: Any, data: int, text: str
) -> None:
    path = raw(tmp_path / "model.safetensors", header, data)
    with mock.patch.object(torch, "empty", side_effect=AssertionError("a tensor was allocated")):
        found = refusal(lambda: stored_tensors(tmp_path))
    assert text in found and found.startswith(f"{path} is damaged: ")


@pytest.mark.parametrize("size", [TERABYTE, 2**64 - 1, 0, 1])
def test_the_length_of_the_header_is_not_believed(tmp_path: Path, size: int) -> None:
    path = raw(tmp_path / "x.safetensors", {"a": ONE}, size=size)
    assert "too short, or no safetensors" in refusal(lambda: read_header(path))


def test_a_header_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.safetensors", b"{}", size=1 << 30)
    with path.open("r+b") as stream:
        stream.truncate(2 << 30)  # a hole, so that the length is true
    assert "header claims 1073741824 bytes" in refusal(lambda: read_header(path))


def test_hostile_json_within_the_limit_stays_small(tmp_path: Path) -> None:
    text = b'{"a":[' + b"[]," * ((HEADER_LIMIT - 10) // 3) + b"0]}"
    path = raw(tmp_path / "x.safetensors", text.ljust(HEADER_LIMIT), 0)
    assert "needs dtype" in refusal(lambda: read_header(path), limit=100 << 20)
    (tmp_path / "long.json").write_bytes(b" " * (HEADER_LIMIT + 1))
    assert "longer than" in refusal(lambda: read_json(tmp_path / "long.json"), limit=10 << 20)


@pytest.mark.parametrize("length", [0, 3, 8, 9])
def test_stumps_are_refused(tmp_path: Path, length: int) -> None:
    whole = raw(tmp_path / "x.safetensors", {"a": ONE}).read_bytes()
    (tmp_path / "x.safetensors").write_bytes(whole[:length])
    assert "too short" in refusal(lambda: read_header(tmp_path / "x.safetensors"))


def test_a_file_cut_after_its_header_was_read(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.safetensors", {"a": ONE})
    stored = read_header(path)["a"]
    path.write_bytes(path.read_bytes()[:-1])
    assert "cut short" in refusal(lambda: read_tensor(stored))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.PTH", "last.ckpt"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x02cos\nsystem\nq\x00.")
    text = refusal(lambda: stored_tensors(tmp_path))
    assert name in text and "pickled" in text and "convert it to safetensors" in text
    assert "pickled" in refusal(lambda: read_header(tmp_path / name))
    (tmp_path / "model.safetensors").write_bytes((tmp_path / name).read_bytes())  # another name makes it no better
    assert "no safetensors file" in refusal(lambda: stored_tensors(tmp_path))


def test_nothing_there(tmp_path: Path) -> None:
    assert r"model.safetensors is missing" in refusal(lambda: stored_tensors(tmp_path))
    assert r"model.safetensors is missing" in refusal(lambda: stored_tensors(tmp_path / "gone"))


def shards(folder: Path) -> dict[str, Any]:
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, folder / "one.safetensors")
    save_file({"c": torch.ones(4)}, folder / "two.safetensors")
    return {"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}}


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps(shards(tmp_path)))
    assert weight_files(tmp_path) == (INDEX, "one.safetensors", "two.safetensors")
    found = stored_tensors(tmp_path)
    expected = load_file(tmp_path / "one.safetensors") | load_file(tmp_path / "two.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(read_tensor(one), expected[name]) for name, one in found.items())


@pytest.mark.parametrize(
    ("change", "text"),
    [({"d": "two.safetensors"}, "disagree about d"), ({"c": "one.safetensors"}, "disagree about c"),
     ({"d": "three.safetensors"}, "three.safetensors is missing"), ({"d": "../two.safetensors"}, "no plain"),
     ({"d": "/etc/two.safetensors"}, "no plain"), ({"d": "sub/two.safetensors"}, "no plain"),
     ({"d": "sub\\two.safetensors"}, "no plain"), ({"d": "two.safetensors\x00"}, "no plain"), ({"d": 3}, "no plain"),
     ({"d": "pytorch_model.bin"}, "pickled"), ({"d": "x" * 9000}, "no plain")])
def test_an_index_that_contradicts_its_shards(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    index = shards(tmp_path)
    index["weight_map"] |= change
    (tmp_path / INDEX).write_text(json.dumps(index))
    assert text in refusal(lambda: stored_tensors(tmp_path))


@pytest.mark.parametrize(
    "text", ["{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": "b", "a": 1}}'])
def test_an_index_without_a_map(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX).write_text(text)
    assert "is damaged" in refusal(lambda: stored_tensors(tmp_path))


def test_a_tensor_that_is_in_two_shards(tmp_path: Path) -> None:
    index = shards(tmp_path)
    save_file({"c": torch.ones(4), "a": torch.ones(2)}, tmp_path / "two.safetensors")
    (tmp_path / INDEX).write_text(json.dumps(index))
    assert "disagree about a" in refusal(lambda: stored_tensors(tmp_path))


def test_links_may_not_leave_the_folder(tmp_path: Path) -> None:
    folder, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    folder.mkdir()
    blobs.mkdir()
    save_file({"a": torch.ones(2)}, blobs / "0123")
    (folder / "model.safetensors").symlink_to("../blobs/0123")
    text = refusal(lambda: stored_tensors(folder))
    assert "link that leaves its folder" in text and f"cp -rL {folder}" in text
    (folder / "model.safetensors").unlink()
    save_file({"a": torch.ones(2)}, folder / "inside.safetensors")
    (folder / "model.safetensors").symlink_to("inside.safetensors")
    (tmp_path / "other").symlink_to(folder, target_is_directory=True)  # the folder itself may be reached by a link
    assert stored_tensors(tmp_path / "other").keys() == {"a"}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("model.safetensors")
    assert "is missing" in refusal(lambda: stored_tensors(folder))


def test_lists_are_bounded() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed((str(n) for n in range(10)), limit=3) == "0, 1, 2 and 7 more"
    assert len(listed(["x" * 10_000])) == 160
    assert listed(["a\nb\x1b[31m", "\ud800"]) == r"a\nb\x1b[31m, \ud800"


def test_a_pickle_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "a\nb\x1b[2J.bin").write_bytes(b"")
    assert r"a\nb\x1b[2J.bin is a pickled" in refusal(lambda: stored_tensors(tmp_path))
