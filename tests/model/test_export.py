"""An exported adapter loads with stock PEFT and computes the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel

from model.adapter import AdapterLayout, attach
from model.backbone import BaseModel, load_base, save_base
from model.export import ADAPTER_FILES, save_adapter
from model.inputs import Example, collate, encode_all
from model.loss import answer_logits
from model.spec import DEFAULT_GROUPS, GROUPS, LoraSpec


@pytest.mark.parametrize("groups", [DEFAULT_GROUPS, tuple(GROUPS)])
def test_peft_loads_it_and_the_logits_are_identical(
    base: BaseModel, tmp_path: Path, examples: list[Example], groups: tuple[str, ...]
) -> None:
    save_base(base.model, base.tokenizer, base.spec, tmp_path / "base")
    model = attach(base.model, LoraSpec(rank=4, groups=groups), seed=0)
    layout = AdapterLayout(model)
    layout.write(model, np.random.default_rng(0).normal(0, 0.3, layout.size))
    save_adapter(model, tmp_path / "adapter", base="abc123")
    # is_trainable: torch folds a matmul differently for weights that need no gradient, which moves the last bit
    other = PeftModel.from_pretrained(load_base(tmp_path / "base").model, str(tmp_path / "adapter"), is_trainable=True)
    batch = collate(encode_all(examples, base.tokenizer, base.spec))
    with torch.no_grad():
        ours, theirs = answer_logits(model, batch), answer_logits(other, batch)
        plain = answer_logits(load_base(tmp_path / "base").model, batch)
    assert torch.equal(ours, theirs)
    read = AdapterLayout(other)
    assert read.entries == layout.entries and np.array_equal(read.read(other), layout.read(model))
    assert ("experts' gate_up_proj" in (tmp_path / "adapter/README.md").read_text()) == ("experts" in groups)
    assert not torch.allclose(ours, plain, atol=1e-3)


def test_files_and_card(base: BaseModel, tmp_path: Path) -> None:
    model = attach(base.model, LoraSpec(rank=4, alpha=8), seed=0)
    save_adapter(model, tmp_path, base="abc123", description="Two hospitals, one stage.")
    assert {path.name for path in tmp_path.iterdir()} == set(ADAPTER_FILES)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["bias"], config["modules_to_save"]) == (4, 8, "none", None)
    assert config["base_model_name_or_path"] == "abc123"
    card = (tmp_path / "README.md").read_text()
    assert "Two hospitals, one stage." in card and "not for clinical decision-making" in card


def test_a_model_without_adapter_is_refused(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="attach one first"):
        save_adapter(base.model, tmp_path)
