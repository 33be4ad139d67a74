"""The published 20B checkpoints, by name, shape and type: files of full size that are holes, models without weights."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, GptOssConfig, GptOssForCausalLM

from model.adapter import AdapterLayout, attach
from model.backbone import empty, expected_tensors
from model.checkpoint import Source, open_composed, open_folder, open_upstream
from model.spec import MEDGPT_OSS_20B, MEDGPT_OSS_20B_PACKED, LoraSpec
from model.tokenizer import SPECIAL_TOKENS, save_tokenizer, train_tokenizer
from tests.vectors import make_checkpoints as made

LANGUAGE_PARAMETERS = 20_914_757_184  # model card of openai/gpt-oss-20b: 21B
STOCK_BYTES, STOCK_TENSORS = 13_761_264_768, 459  # model.safetensors.index.json of openai/gpt-oss-20b
TOWER_PARAMETERS = 303_507_456  # CLIP ViT-L/14@336, its vision tower without the projection
PROJECTOR_PARAMETERS = 20_104_832  # LayerNorm(4096), 4096 x 2880, 2880 x 2880


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer: its <|return|> is 2, and so is that of the configurations here."""
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    save_tokenizer(train_tokenizer(["words"], 500), path)
    assert SPECIAL_TOKENS.index("<|return|>") == 2
    return path


def sizes() -> made.Sizes:
    return replace(made.FULL, end=2)


def planned(source: Source) -> tuple[list[str], int]:
    """Every name that the plan makes, in order, and the bytes that it reads."""
    steps = source.plan(expected_tensors(empty(source.spec)))
    read = {one.name: one.size for step in steps for one in step.stored}
    return [name for step in steps for name in step.names], sum(read.values())


def test_the_names_of_the_fixtures_are_those_of_transformers() -> None:
    with torch.device("meta"):
        language = GptOssForCausalLM(GptOssConfig.from_dict(made.language_config(made.FULL)))
        tower = CLIPVisionModel(CLIPVisionConfig(**made.tower_config(made.FULL)))
    shapes = made.language_shapes(made.FULL, "BF16", packed=False)
    assert {name: tuple(one.shape) for name, one in language.state_dict().items()} == {
        name: shape for name, (_, shape) in shapes.items()}
    assert {f"vision_model.{name.removeprefix('vision_model.')}": tuple(one.shape)
            for name, one in tower.state_dict().items()} == {
        name: shape for name, (_, shape) in made.tower_shapes(made.FULL, "F32").items()}


def test_stock_parts_of_full_size(tmp_path: Path, words: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shapes = made.language_shapes(sizes(), "BF16", packed=True)
    assert len(shapes) == STOCK_TENSORS
    assert shapes["model.layers.23.mlp.experts.gate_up_proj_blocks"] == ("U8", (32, 5760, 90, 16))
    assert shapes["model.layers.0.self_attn.q_proj.weight"] == ("BF16", (4096, 2880))
    assert made.write_sparse(tmp_path / "language", made.stock_config(sizes()), shapes) == STOCK_BYTES
    made.write_sparse(tmp_path / "clip", made.clip_config(sizes()), made.clip_shapes(sizes()))
    source = open_composed(tmp_path / "language", tmp_path / "clip", words)
    spec = source.spec
    for name in ("vocab_size", "hidden_size", "expert_size", "num_layers", "num_heads", "num_kv_heads", "head_dim",
                 "num_experts", "experts_per_token", "sliding_window", "rope_theta", "rope_factor", "context",
                 "vision_hidden_size", "vision_mlp_size", "vision_layers", "vision_heads", "vision_feature_layer",
                 "image_size", "patch_size", "max_tiles", "max_tokens", "dtype", "experts", "projector"):
        assert getattr(spec, name) == getattr(MEDGPT_OSS_20B_PACKED, name), name
    with torch.device("meta"):
        projector = {"linear_1.weight": torch.empty(2880, 1024), "linear_1.bias": torch.empty(2880),
                     "linear_2.weight": torch.empty(2880, 2880), "linear_2.bias": torch.empty(2880)}
    source = source.with_projector(projector)
    names, read = planned(source)
    assert read == STOCK_BYTES + 4 * TOWER_PARAMETERS
    assert names == list(empty(spec).state_dict())
    dense, read = planned(source.with_experts("dense"))
    assert dense == list(empty(MEDGPT_OSS_20B).state_dict()) and read == STOCK_BYTES + 4 * TOWER_PARAMETERS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB: less than a GiB


@pytest.mark.parametrize("nested", [True, False])
def test_upstream_of_full_size(tmp_path: Path, words: Path, nested: bool) -> None:
    shapes = made.upstream_shapes(sizes(), nested=nested)
    size = made.write_sparse(tmp_path, made.upstream_config(sizes()), shapes)
    assert size == 2 * (LANGUAGE_PARAMETERS + TOWER_PARAMETERS + PROJECTOR_PARAMETERS)
    source = open_upstream(tmp_path, words)
    assert source.spec.tokens_per_tile == 144 and source.spec.dtype == "bfloat16"
    names, read = planned(source)
    assert read == size and names == list(empty(source.spec).state_dict())
    packed = source.with_experts("mxfp4")
    names, read = planned(packed)
    assert read == size and names == list(empty(packed.spec).state_dict())


def test_our_own_form_of_full_size_and_its_adapters(tmp_path: Path, words: Path) -> None:
    expected = expected_tensors(empty(MEDGPT_OSS_20B_PACKED))
    kinds = {dtype: name for name, dtype in made.TYPES.items()}
    made.write_sparse(tmp_path, {}, {name: (kinds[dtype], shape) for name, (shape, dtype) in expected.items()})
    (tmp_path / "spec.json").write_text(MEDGPT_OSS_20B_PACKED.to_json())
    (tmp_path / "tokenizer.json").write_bytes(words.read_bytes())
    source = open_folder(tmp_path)
    assert source.spec == MEDGPT_OSS_20B_PACKED and planned(source)[0] == list(expected)
    layout = AdapterLayout(attach(empty(source.spec), LoraSpec(rank=8), seed=0))
    assert layout.select(["attention"]).size == 3_981_312
