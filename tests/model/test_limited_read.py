"""A long file is refused after its limit, by everybody who reads a file of others before checking it."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from model.adapted import open_with_adapter
from model.adapter_files import AdapterFiles
from model.backbone import BaseModel, save_base
from model.checkpoint import open_folder, read_spec
from model.limited_read import read_limited
from model.spec import LoraSpec, ModelSpec

LONG = 300 * 10**6


def test_a_file_of_exactly_the_limit_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_limited(tmp_path / "file", 5) == b"12345"
    with pytest.raises(ValueError, match=r"file is damaged: it is longer than 4 bytes; get the file again\.$"):
        read_limited(tmp_path / "file", 4)


def adapter_of(folder: Path) -> AdapterFiles:
    return AdapterFiles(folder, LoraSpec(rank=4), None, "", {})


OPENERS: dict[str, Callable[[Path], object]] = {
    "folder": open_folder, "merge": read_spec, "adapter": lambda base: open_with_adapter(base, adapter_of(base))}


@pytest.mark.parametrize("name", OPENERS)
def test_a_spec_file_without_an_end_is_not_read_to_it(
    base: BaseModel, spec: ModelSpec, tmp_path: Path, name: str
) -> None:
    save_base(base.model, base.tokenizer, spec, tmp_path)
    os.truncate(tmp_path / "spec.json", LONG)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"spec\.json is damaged: it is longer than 1048576 bytes"):
            OPENERS[name](tmp_path)
        assert tracemalloc.get_traced_memory()[1] < LONG / 10
    finally:
        tracemalloc.stop()


def test_no_outline_of_an_absurd_model_is_built(
    base: BaseModel, spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_base(base.model, base.tokenizer, spec, tmp_path)
    text = (tmp_path / "spec.json").read_text()
    (tmp_path / "spec.json").write_text(text.replace('"num_layers": 2', '"num_layers": 1000000000'))
    monkeypatch.setattr("model.adapted.empty", lambda _: pytest.fail("an outline was begun"))
    with pytest.raises(ValueError, match="ModelSpec: num_layers must be at most 512"):
        open_with_adapter(tmp_path, adapter_of(tmp_path))
