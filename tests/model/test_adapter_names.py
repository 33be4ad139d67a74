"""The order of an adapter's numbers is one, with torch and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from model.adapter import AdapterLayout, attach
from model.adapter_names import factor_of, file_name, module_of, vector_of
from model.backbone import BaseModel
from model.export import adapter_without_base, save_adapter, write_adapter
from model.spec import GROUPS, LoraSpec, ModelSpec


def test_a_file_read_without_torch_gives_the_vector(base: BaseModel, tmp_path: Path) -> None:
    model = attach(base.model, LoraSpec(rank=4, groups=tuple(GROUPS)), seed=0)
    layout = AdapterLayout(model)
    layout.write(model, np.random.default_rng(0).normal(0, 1, layout.size))
    save_adapter(model, tmp_path)
    found = load_file(tmp_path / "adapter_model.safetensors")
    assert np.array_equal(vector_of(found), layout.read(model))
    assert {file_name(entry.name) for entry in layout.entries} == set(found)
    assert {factor_of(entry.name) == entry.factor for entry in layout.entries} == {True}
    assert module_of(layout.entries[0].name) == "model.language_model.layers.0.self_attn.k_proj"


def test_other_names_and_none_are_refused() -> None:
    with pytest.raises(ValueError, match="outside the known groups"):
        vector_of({"base_model.model.model.vision_tower.x.lora_A.weight": np.zeros((1, 1))})
    with pytest.raises(ValueError, match="no matrix"):
        vector_of({})


def test_an_adapter_written_without_the_base_is_the_same_file(
    base: BaseModel, spec: ModelSpec, tmp_path: Path
) -> None:
    lora = LoraSpec(rank=4, groups=tuple(GROUPS))
    model = attach(base.model, lora, seed=0)
    layout = AdapterLayout(model)
    vector = np.random.default_rng(0).normal(0, 1, layout.size)
    layout.write(model, vector)
    write_adapter(model, tmp_path / "with", base="abc")
    write_adapter(adapter_without_base(spec, lora, vector), tmp_path / "without", base="abc")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    with pytest.raises(ValueError, match="must have shape"):
        adapter_without_base(spec, lora, vector[1:])
