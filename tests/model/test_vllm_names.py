"""Adapters that vLLM takes, and those that it would refuse or take in part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from model.adapter import attach
from model.backbone import BaseModel
from model.export import save_adapter
from model.spec import GROUPS, LoraSpec
from model.vllm_names import max_lora_rank, parse_lora_name, require_vllm_loads, vllm_sentence

PREFIX = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
NAMES = [f"{PREFIX}.lora_A.weight", f"{PREFIX}.lora_B.weight"]
CONFIG: dict[str, Any] = {"r": 8, "lora_alpha": 16, "bias": "none", "modules_to_save": None, "use_dora": False}


def written(base: BaseModel, folder: Path, groups: tuple[str, ...]) -> tuple[list[str], dict[str, Any]]:
    save_adapter(attach(base.model, LoraSpec(rank=4, groups=groups), seed=0), folder)
    with safe_open(str(folder / "adapter_model.safetensors"), framework="numpy") as file:
        return list(file.keys()), json.loads((folder / "adapter_config.json").read_text())


def test_an_attention_adapter_is_loaded_under_the_names_of_vllms_llava(base: BaseModel, tmp_path: Path) -> None:
    names, config = written(base, tmp_path, ("attention",))
    require_vllm_loads(names, config)
    paths = {parse_lora_name(name)[0] for name in names}
    assert all(path.startswith("language_model.model.layers.") for path in paths)
    assert {path.rsplit(".", 1)[-1] for path in paths} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert "--max-lora-rank 8" in vllm_sentence(names, config)


@pytest.mark.parametrize("groups", [("attention", "projector"), ("attention", "experts"), tuple(GROUPS)])
def test_parts_that_it_leaves_out_are_named(base: BaseModel, tmp_path: Path, groups: tuple[str, ...]) -> None:
    names, config = written(base, tmp_path, groups)
    with pytest.raises(ValueError, match=r"leaves out: .*--format merged") as caught:
        require_vllm_loads(names, config)
    assert all(group in str(caught.value) for group in groups[1:])
    assert vllm_sentence(names, config).startswith("not for this adapter: ")


@pytest.mark.parametrize(("changed", "words"), [
    ({"bias": "all"}, "bias"), ({"modules_to_save": ["lm_head"]}, "modules_to_save"), ({"use_dora": True}, "use_dora"),
    ({"r": 8.0}, "whole number"), ({"r": True}, "whole number"), ({"r": 513}, "up to rank 512"),
    ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"), ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
])
def test_configurations_that_it_refuses(changed: dict[str, Any], words: str) -> None:
    require_vllm_loads(NAMES, CONFIG)
    with pytest.raises(ValueError, match=words):
        require_vllm_loads(NAMES, {**CONFIG, **changed})


@pytest.mark.parametrize("name", [
    "model.language_model.layers.0.self_attn.q_proj.lora_A.weight", f"{PREFIX}.lora_A.default.weight",
    f"{PREFIX}.lora_magnitude_vector", f"{PREFIX}.weight", f"{PREFIX}.lora_A.bias"])
def test_names_that_it_does_not_read(name: str) -> None:
    with pytest.raises(ValueError, match="does not read a LoRA weight"):
        require_vllm_loads([*NAMES, name], CONFIG)


def test_half_an_adapter_and_none_are_refused() -> None:
    for names in (NAMES[:1], []):
        with pytest.raises(ValueError, match="both factors"):
            require_vllm_loads(names, CONFIG)


def test_the_rank_that_the_server_needs() -> None:
    assert [max_lora_rank(rank) for rank in (1, 8, 9, 64, 300)] == [8, 8, 16, 64, 320]
