"""Checkpoints of every layout against the modules of transformers that they were written for, and refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, GptOssConfig, GptOssForCausalLM, InternVLConfig
from transformers.integrations.mxfp4 import convert_moe_packed_tensors
from transformers.models.internvl.modeling_internvl import InternVLModel, InternVLMultiModalProjector

from model.adapted import open_with_adapter
from model.adapter import AdapterLayout, attach
from model.adapter_files import read_adapter
from model.backbone import empty, hash_model, load_base, load_source
from model.checkpoint import open_composed, open_folder, open_upstream, read_projector, read_spec
from model.export import adapter_without_base, write_adapter
from model.merge import adapter_changes, merge_base
from model.mxfp4 import PackedExperts, dequantise, quantise
from model.spec import LoraSpec
from model.tokenizer import save_tokenizer, train_tokenizer
from tests.vectors import make_checkpoints as made

SIZES = made.TINY


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    save_tokenizer(train_tokenizer(["Is this study normal? The lungs are clear."], SIZES.vocab), path)
    return path


def upstream(folder: Path, words: Path, dtype: str = "F32", **changes: Any) -> Path:
    nested = changes.pop("nested", True)
    config = made.upstream_config(SIZES) | changes
    made.write(folder, config, made.tensors(made.upstream_shapes(SIZES, dtype, nested=nested), 1), shards=3)
    (folder / "tokenizer.json").write_bytes(words.read_bytes())
    return folder


def everything(folder: Path) -> dict[str, torch.Tensor]:
    return {name: one for file in folder.glob("*.safetensors") for name, one in load_file(file).items()}


def part(values: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): one for name, one in values.items() if name.startswith(prefix)}


def their_language(values: dict[str, torch.Tensor]) -> GptOssForCausalLM:
    """transformers' own language model with these weights, MXFP4 unpacked by transformers."""
    for name in [name for name in values if name.endswith("_blocks")]:
        stem = name.removesuffix("_blocks")
        values[stem] = convert_moe_packed_tensors(values.pop(name), values.pop(f"{stem}_scales"), dtype=torch.float32)
    config = GptOssConfig.from_dict(made.language_config(SIZES))
    config._attn_implementation, config._experts_implementation = "eager", "eager"
    model = GptOssForCausalLM(config).eval()
    model.load_state_dict(values, strict=True)
    return model


def their_patches(values: dict[str, torch.Tensor], pixels: torch.Tensor, layer: int) -> torch.Tensor:
    """Patches (n, S^2, c) of transformers' own CLIP tower, from hidden state `layer`."""
    tower = CLIPVisionModel(CLIPVisionConfig(**made.tower_config(SIZES))).eval()
    tower.load_state_dict(values, strict=True)
    return tower(pixel_values=pixels, output_hidden_states=True).hidden_states[layer][:, 1:]


def their_logits(language: GptOssForCausalLM, ids: torch.Tensor, tokens: torch.Tensor, image: int) -> torch.Tensor:
    embedded = language.get_input_embeddings()(ids).clone()
    embedded[ids == image] = tokens.reshape(-1, embedded.shape[-1])
    return language(inputs_embeds=embedded).logits


def prompt(image: int, tokens: int) -> torch.Tensor:
    return torch.tensor([[1, *[image] * tokens, *range(60, 100)]])


def distance(one: torch.Tensor, two: torch.Tensor) -> float:
    return float((one - two).abs().max())


@torch.no_grad()
@pytest.mark.parametrize(("layer", "nested"), [(-1, True), (-2, False)])
def test_upstream_computes_what_its_modules_do(tmp_path: Path, words: Path, layer: int, nested: bool) -> None:
    folder = upstream(tmp_path, words, select_layer=layer, nested=nested)
    base = load_base(folder)
    assert base.spec.projector == "internvl" and base.spec.normalisation == "imagenet" and base.spec.max_tiles == 12
    pixels = torch.randn(2, 3, SIZES.image, SIZES.image)
    ids = prompt(base.spec.image_token_id, 2 * base.spec.tokens_per_tile)
    values = everything(folder)
    patches = their_patches(part(values, "vision_model.vision_model." if nested else "vision_model."), pixels, layer)
    projector = InternVLMultiModalProjector(InternVLConfig(
        vision_config={"hidden_size": SIZES.vision}, text_config={"model_type": "qwen2", "hidden_size": SIZES.hidden}))
    names = {"mlp1.0": "layer_norm", "mlp1.1": "linear_1", "mlp1.3": "linear_2"}
    projector.load_state_dict({name.replace(name[:6], names[name[:6]]): one for name, one in values.items()
                               if name.startswith("mlp1")})
    side = SIZES.image // SIZES.patch
    shuffled = InternVLModel.pixel_shuffle(None, patches.reshape(2, side, side, -1), scale_factor=0.5)  # type: ignore[arg-type]
    tokens = projector(shuffled.reshape(2, side * side // 4, -1))
    expected = their_logits(their_language(part(values, "language_model.")), ids, tokens, base.spec.image_token_id)
    found = base.model(input_ids=ids, pixel_values=pixels).logits
    assert distance(found, expected) < 1e-5 < float(expected.std())


@torch.no_grad()
@pytest.mark.parametrize("experts", ["mxfp4", "dense"])
def test_stock_parts_compute_what_their_modules_do(tmp_path: Path, words: Path, experts: str) -> None:
    language, clip = made.write_stock(tmp_path / "language", "F32"), made.write_clip(tmp_path / "clip")
    projector = {"linear_1.weight": torch.randn(SIZES.hidden, SIZES.vision) / 6, "linear_1.bias": torch.randn(64),
                 "linear_2.weight": torch.randn(SIZES.hidden, SIZES.hidden) / 8, "linear_2.bias": torch.randn(64)}
    save_file({f"multi_modal_projector.{name}": one for name, one in projector.items()}, tmp_path / "p.safetensors")
    source = open_composed(language, clip, words).with_projector(read_projector(tmp_path / "p.safetensors"))
    spec = source.spec
    assert (spec.experts, spec.projector, spec.normalisation, spec.vision_feature_layer) == (
        "mxfp4", "llava", "clip", -2)
    model = load_source(source.with_experts(experts))
    packed = [module for module in model.modules() if isinstance(module, PackedExperts)]
    assert len(packed) == (SIZES.layers if experts == "mxfp4" else 0)
    pixels = torch.randn(1, 3, SIZES.image, SIZES.image)
    ids = prompt(spec.image_token_id, spec.tokens_per_tile)
    tower = {name: one for name, one in part(load_file(clip / "model.safetensors"), "vision_model.").items()
             if "position_ids" not in name}
    hidden = torch.nn.functional.gelu(
        their_patches(tower, pixels, -2) @ projector["linear_1.weight"].T + projector["linear_1.bias"])
    tokens = hidden @ projector["linear_2.weight"].T + projector["linear_2.bias"]
    expected = their_logits(their_language(everything(language)), ids, tokens, spec.image_token_id)
    assert distance(model(input_ids=ids, pixel_values=pixels).logits, expected) < 1e-5 < float(expected.std())


def test_types_stay_and_only_the_stock_tower_is_rounded(tmp_path: Path, words: Path) -> None:
    model = load_base(upstream(tmp_path / "up", words, "BF16")).model
    stored = everything(tmp_path / "up")["language_model.model.layers.0.mlp.experts.gate_up_proj"]
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}
    assert torch.equal(model.model.language_model.layers[0].mlp.experts.gate_up_proj, stored)
    assert all(one.requires_grad for one in model.parameters())
    language, clip = made.write_stock(tmp_path / "language"), made.write_clip(tmp_path / "clip", "F16")
    source = open_composed(language, clip, words).with_projector(projector_of(torch.float32))
    composed = load_source(source)
    assert {one.dtype for one in composed.state_dict().values()} == {torch.bfloat16, torch.uint8}
    half = load_file(clip / "model.safetensors")["vision_model.pre_layrnorm.weight"]
    assert torch.equal(composed.model.vision_tower.pre_layrnorm.weight, half.bfloat16())


def projector_of(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    wide = {"linear_1.weight": (64, 32), "linear_1.bias": (64,), "linear_2.weight": (64, 64), "linear_2.bias": (64,)}
    return {name: torch.full(shape, 0.01, dtype=dtype) for name, shape in wide.items()}


def test_dense_experts_are_packed_expert_by_expert_as_a_whole_would_be(tmp_path: Path, words: Path) -> None:
    folder = upstream(tmp_path, words, "BF16")
    model = load_source(open_folder(folder).with_experts("mxfp4"))
    values = everything(folder)
    for number, layer in enumerate(model.model.language_model.layers):
        for name in ("gate_up_proj", "down_proj"):
            dense = values[f"language_model.model.layers.{number}.mlp.experts.{name}"]
            blocks, scales = quantise(dense.mT)
            assert torch.equal(getattr(layer.mlp.experts, f"{name}_blocks"), blocks)
            assert torch.equal(getattr(layer.mlp.experts, f"{name}_scales"), scales)
            lost = dequantise(blocks, scales, torch.float32).mT - dense.float()
            assert 0.05 < float(lost.norm() / dense.float().norm()) < 0.2  # it rounds, as the guide says
            assert torch.equal(getattr(layer.mlp.experts, f"{name}_bias"),
                               values[f"language_model.model.layers.{number}.mlp.experts.{name}_bias"])


def test_what_asks_for_code_is_not_looked_at(tmp_path: Path, words: Path) -> None:
    folder = upstream(tmp_path, words, trust_remote_code=True)
    (folder / "modeling_internvl_chat.py").write_text("raise SystemExit('imported')")
    before = hash_model(folder)
    assert load_base(folder, expected_hash=before).content_hash == before
    (folder / "modeling_internvl_chat.py").write_text("other")
    assert hash_model(folder) == before  # nor does it count: it cannot matter


def test_the_hash_is_of_every_weight(tmp_path: Path, words: Path) -> None:
    folder = upstream(tmp_path, words)
    before = hash_model(folder)
    for name in ("config.json", "tokenizer.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors"):
        data = (folder / name).read_bytes()
        changed = data + b" " if name.endswith(".json") else data[:-1] + bytes([data[-1] ^ 1])
        (folder / name).write_bytes(changed)
        assert hash_model(folder) != before
        (folder / name).write_bytes(data)
    assert hash_model(folder) == before
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json is missing"):
        hash_model(folder)


def test_stock_weights_alone_are_no_base_model(tmp_path: Path, words: Path) -> None:
    folder = made.write_stock(tmp_path)
    (folder / "tokenizer.json").write_bytes(words.read_bytes())
    for refused in (hash_model, load_base):
        with pytest.raises(ValueError, match=r"no base model by itself.*coordinator make-base"):
            refused(folder)


@pytest.mark.parametrize(
    ("change", "text"),
    [({"ps_version": "v1"}, "ps_version is v1, and only v2"), ({"ps_version": "v\n1"}, r"is v\\n1,"),
      ({"downsample_ratio": 0.25}, "downsample_ratio"),
     ({"use_thumbnail": False}, "use_thumbnail"), ({"select_layer": 2}, "vision_feature_layer"),
     ({"force_image_size": 448}, "force_image_size is 448, and only 32"), ({"use_llm_lora": 16}, "use_llm_lora"),
     ({"llm_config": None}, "llm_config is missing"), ({"vision_config": []}, "vision_config is missing"),
     ({"vision_config": made.tower_config(SIZES) | {"hidden_act": "gelu"}}, "hidden_act is gelu"),
     ({"vision_config": made.tower_config(SIZES) | {"model_type": "intern_vit_6b"}}, "model_type is intern_vit_6b"),
     ({"llm_config": made.language_config(SIZES) | {"model_type": "qwen3"}}, "model_type is qwen3"),
     ({"llm_config": made.language_config(SIZES) | {"swiglu_limit": 5.0}}, "swiglu_limit is 5.0"),
     ({"llm_config": made.language_config(SIZES) | {"hidden_act": "gelu"}}, "hidden_act is gelu"),
     ({"llm_config": made.language_config(SIZES) | {"hidden_size": "64"}}, "llm_config is malformed"),
     ({"llm_config": made.language_config(SIZES) | {"layer_types": ["full_attention"] * 2}}, "layer_types"),
     ({"llm_config": made.language_config(SIZES) | {"rope_scaling": {"rope_type": "default"}}}, "rope_type is default"),
     ({"llm_config": made.language_config(SIZES) | {"max_position_embeddings": 4096}}, "max_position_embeddings"),
     ({"llm_config": made.language_config(SIZES) | {"eos_token_id": 7}}, "eos_token_id is 7"),
     ({"llm_config": made.language_config(SIZES) | {"tie_word_embeddings": True}}, "tie_word_embeddings"),
     ({"llm_config": made.language_config(SIZES) | {"vocab_size": 10**9}}, "larger model than the files hold"),
     ({"llm_config": made.language_config(SIZES) | {"num_hidden_layers": 10**9, "layer_types": None}},
      "num_hidden_layers is 1000000000"),
     ({"vision_config": made.tower_config(SIZES) | {"num_hidden_layers": 900}}, "larger model than the files hold")])
def test_settings_that_are_not_computed_are_refused_by_name(
    tmp_path: Path, words: Path, change: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        load_base(upstream(tmp_path, words, **change))
    assert "\n" not in str(caught.value)


def test_only_a_stock_tower_may_be_of_another_type(tmp_path: Path, words: Path) -> None:
    values = made.tensors(made.upstream_shapes(SIZES, "BF16"), 1)
    name = "vision_model.vision_model.post_layernorm.bias"
    values[name] = values[name].float()
    made.write(tmp_path, made.upstream_config(SIZES), values)
    with pytest.raises(ValueError, match=r"post_layernorm\.bias is float32 instead of bfloat16"):
        load_source(open_upstream(tmp_path, words))


def test_stock_weights_with_another_end_than_the_tokenizers(tmp_path: Path, words: Path) -> None:
    config = made.stock_config(SIZES) | {"eos_token_id": [7, 8]}
    folder = made.write(tmp_path / "a", config, made.tensors(made.language_shapes(SIZES, "BF16", packed=True), 1))
    with pytest.raises(ValueError, match=r"eos_token_id is \[7, 8\] and <\|return\|> is 2"):
        open_composed(folder, made.write_clip(tmp_path / "b"), words)


def test_another_quantisation_is_refused(tmp_path: Path, words: Path) -> None:
    config = made.stock_config(SIZES) | {"quantization_config": {"quant_method": "gptq"}}
    folder = made.write(tmp_path / "a", config, made.tensors(made.language_shapes(SIZES, "BF16", packed=True), 1))
    with pytest.raises(ValueError, match="quantization_config is not mxfp4"):
        open_composed(folder, made.write_clip(tmp_path / "b"), words)


def test_what_does_not_fit_is_one_sentence_that_names_it(tmp_path: Path, words: Path) -> None:
    values = made.tensors(made.upstream_shapes(SIZES, "F32"), 1)
    lost = "language_model.model.layers.1.self_attn.sinks"
    del values[lost]
    values["mlp1.1.weight"] = values["mlp1.1.weight"].T.contiguous()
    values["mlp1.3.bias"] = values["mlp1.3.bias"].bfloat16()
    values["lora_A.default"] = torch.zeros(3)
    values["line\nfeed\x1b[2J"] = torch.zeros(3)
    values["lm_head.weight"] = values["language_model.lm_head.weight"].clone()  # ours, not theirs
    made.write(tmp_path, made.upstream_config(SIZES), values)
    (tmp_path / "tokenizer.json").write_bytes(words.read_bytes())
    with pytest.raises(ValueError, match=r"does not fit its config\.json") as caught:
        load_base(tmp_path)
    text = str(caught.value)
    assert text.isprintable() and f"{lost} is missing" in text
    assert "lora_A.default is left over" in text and "lm_head.weight is left" in text
    assert "mlp1.1.weight is (128, 64) instead of (64, 128)" in text
    assert "mlp1.3.bias is bfloat16 instead of float32" in text and "\n" not in text


def test_long_lists_are_cut(tmp_path: Path, words: Path) -> None:
    values = made.tensors(made.upstream_shapes(SIZES, "F32"), 1)
    values |= {f"x{n}" + "y" * 500: torch.zeros(1) for n in range(50)}
    made.write(tmp_path, made.upstream_config(SIZES), values)
    (tmp_path / "tokenizer.json").write_bytes(words.read_bytes())
    with pytest.raises(ValueError, match="and 42 more") as caught:
        load_base(tmp_path)
    assert len(str(caught.value)) < 2000


def test_a_scale_that_is_no_number_is_refused(tmp_path: Path, words: Path) -> None:
    values = made.tensors(made.language_shapes(SIZES, "F32", packed=True), 2)
    values["model.layers.1.mlp.experts.down_proj_scales"][3, 5, 0] = 255
    folder = made.write(tmp_path / "language", made.stock_config(SIZES), values)
    source = open_composed(folder, made.write_clip(tmp_path / "clip"), words)
    source = source.with_projector(projector_of(torch.float32))
    for experts in ("mxfp4", "dense"):
        with pytest.raises(ValueError, match=r"down_proj_scales.*no number"):
            load_source(source.with_experts(experts))


def test_numbers_that_cannot_be_packed_are_named(tmp_path: Path, words: Path) -> None:
    values = made.tensors(made.upstream_shapes(SIZES, "F32"), 1)
    values["language_model.model.layers.0.mlp.experts.down_proj"][1, 2, 3] = float("inf")
    made.write(tmp_path, made.upstream_config(SIZES), values)
    with pytest.raises(ValueError, match=r"layers\.0\.mlp\.experts\.down_proj.*not finite"):
        load_source(open_upstream(tmp_path, words).with_experts("mxfp4"))


def test_a_stock_folder_with_dense_experts(tmp_path: Path, words: Path) -> None:
    values = made.tensors(made.language_shapes(SIZES, "BF16", packed=False), 2)
    folder = made.write(tmp_path / "language", made.language_config(SIZES), values)
    source = open_composed(folder, made.write_clip(tmp_path / "clip"), words)
    source = source.with_projector(projector_of(torch.float32))
    assert source.spec.experts == "dense"
    state = load_source(source).state_dict()
    assert torch.equal(state["model.language_model.layers.1.mlp.experts.down_proj"],
                       values["model.layers.1.mlp.experts.down_proj"])


def test_a_projector_of_another_shape_or_none_is_refused(tmp_path: Path, words: Path) -> None:
    source = open_composed(made.write_stock(tmp_path / "language"), made.write_clip(tmp_path / "clip"), words)
    with pytest.raises(ValueError, match=r"multi_modal_projector\.linear_1\.weight is missing"):
        load_source(source)
    wrong = projector_of(torch.float32) | {"linear_1.weight": torch.zeros(64, 128)}
    with pytest.raises(ValueError, match=r"\(64, 128\) instead of \(64, 32\)"):
        load_source(source.with_projector(wrong))
    (tmp_path / "p.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="pickled"):
        read_projector(tmp_path / "p.bin")
    with pytest.raises(ValueError, match="no projector at"):
        read_projector(tmp_path / "gone.safetensors")


def test_the_vocabulary_is_the_configs(tmp_path: Path, words: Path) -> None:
    sizes = replace(SIZES, vocab=437)
    made.write(tmp_path, made.upstream_config(sizes), made.tensors(made.upstream_shapes(sizes, "F32"), 1))
    assert load_source(open_upstream(tmp_path, words)).lm_head.weight.shape == (437, 64)
    (tmp_path / "config.json").write_text(json.dumps(made.upstream_config(SIZES)))
    with pytest.raises(ValueError, match=r"embed_tokens\.weight is \(437, 64\) instead of \(420, 64\)"):
        load_source(open_upstream(tmp_path, words))


def test_an_adapter_of_medgpt_oss_as_published_is_written_and_opened_and_its_merge_refused(
    tmp_path: Path, words: Path
) -> None:
    """A run may use the folder as it is: its release needs the spec, which that folder has in other words."""
    base = upstream(tmp_path / "up", words)
    spec, lora = read_spec(base), LoraSpec(rank=2, alpha=4)
    assert spec == open_folder(base).spec
    with torch.device("meta"):
        size = AdapterLayout(attach(empty(spec), lora, seed=0)).size
    vector = torch.linspace(-1, 1, size, dtype=torch.float64).float().double().numpy()
    (tmp_path / "adapter").mkdir()
    write_adapter(adapter_without_base(spec, lora, vector), tmp_path / "adapter", base=hash_model(base).hex())
    adapted = open_with_adapter(base, read_adapter(tmp_path / "adapter"))
    assert (adapted.read() == vector).all() and adapted.base.content_hash == hash_model(base)
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"make-base.*export this one as peft"):
        merge_base(base, tmp_path / "out", adapter_changes(spec, lora, vector))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("folder", ["nothing", "stock"])
def test_a_folder_without_a_spec_is_refused(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder
    path.mkdir()
    if folder == "stock":
        made.write_stock(path)
    with pytest.raises(ValueError, match=r"spec\.json is missing|no base model by itself"):
        read_spec(path)
