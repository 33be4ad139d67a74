"""Tiny checkpoints of every layout, as published ones are: python tests/vectors/make_checkpoints.py DIR

The names and shapes are written down here a second time, from the indices of openai/gpt-oss-20b and
openai/clip-vit-large-patch14-336 and from OpenGVLab/InternVL's `InternVLChatModel`, so that the tests do not compare
the loader with itself. Numbers are seeded. With FULL as sizes the same functions give the published shapes.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Shapes = dict[str, tuple[str, tuple[int, ...]]]
"""Tensor name -> (type as in a safetensors header, shape)."""

TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "U8": torch.uint8, "I64": torch.int64}


@dataclass(frozen=True)
class Sizes:
    """Dimensions of a language model and a vision tower."""

    vocab: int = 420
    hidden: int = 64
    inner: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    experts: int = 4
    chosen: int = 2
    window: int = 16
    context: int = 256
    factor: float = 4.0
    vision: int = 32
    vision_inner: int = 48
    vision_layers: int = 3
    vision_heads: int = 2
    image: int = 32
    patch: int = 8
    end: int = 2

FULL = Sizes(vocab=201_088, hidden=2880, inner=2880, layers=24, heads=64, kv_heads=8, head_dim=64, experts=32, chosen=4,
             window=128, context=4096, factor=32.0, vision=1024, vision_inner=4096, vision_layers=24, vision_heads=16,
             image=336, patch=14, end=200_002)
TINY = Sizes()


def language_shapes(sizes: Sizes, dtype: str, *, packed: bool) -> Shapes:
    """GptOssForCausalLM as its files name it; packed experts as openai/gpt-oss-20b stores them."""
    h, inner, e = sizes.hidden, sizes.inner, sizes.experts
    q, kv = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    found: Shapes = {"model.embed_tokens.weight": (dtype, (sizes.vocab, h)), "model.norm.weight": (dtype, (h,)),
                     "lm_head.weight": (dtype, (sizes.vocab, h))}
    for number in range(sizes.layers):
        layer = f"model.layers.{number}."
        plain = {
            "input_layernorm.weight": (h,), "post_attention_layernorm.weight": (h,), "self_attn.sinks": (sizes.heads,),
            "self_attn.q_proj.weight": (q, h), "self_attn.q_proj.bias": (q,), "self_attn.k_proj.weight": (kv, h),
            "self_attn.k_proj.bias": (kv,), "self_attn.v_proj.weight": (kv, h), "self_attn.v_proj.bias": (kv,),
            "self_attn.o_proj.weight": (h, q), "self_attn.o_proj.bias": (h,), "mlp.router.weight": (e, h),
            "mlp.router.bias": (e,), "mlp.experts.gate_up_proj_bias": (e, 2 * inner),
            "mlp.experts.down_proj_bias": (e, h)}
        if not packed:
            plain |= {"mlp.experts.gate_up_proj": (e, h, 2 * inner), "mlp.experts.down_proj": (e, inner, h)}
        found |= {layer + name: (dtype, shape) for name, shape in plain.items()}
        if packed:
            found |= {f"{layer}mlp.experts.{name}": ("U8", shape) for name, shape in {
                "gate_up_proj_blocks": (e, 2 * inner, h // 32, 16), "gate_up_proj_scales": (e, 2 * inner, h // 32),
                "down_proj_blocks": (e, h, inner // 32, 16), "down_proj_scales": (e, h, inner // 32)}.items()}
    return found


def tower_shapes(sizes: Sizes, dtype: str) -> Shapes:
    """CLIPVisionModel of transformers 4, prefix `vision_model.`"""
    v, inner = sizes.vision, sizes.vision_inner
    plain: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (v,), "embeddings.patch_embedding.weight": (v, 3, sizes.patch, sizes.patch),
        "embeddings.position_embedding.weight": ((sizes.image // sizes.patch) ** 2 + 1, v)}
    for norm in ("pre_layrnorm", "post_layernorm"):
        plain |= {f"{norm}.weight": (v,), f"{norm}.bias": (v,)}
    for number in range(sizes.vision_layers):
        layer = f"encoder.layers.{number}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            plain |= {f"{layer}self_attn.{name}.weight": (v, v), f"{layer}self_attn.{name}.bias": (v,)}
        for name in ("layer_norm1", "layer_norm2"):
            plain |= {f"{layer}{name}.weight": (v,), f"{layer}{name}.bias": (v,)}
        plain |= {f"{layer}mlp.fc1.weight": (inner, v), f"{layer}mlp.fc1.bias": (inner,),
                  f"{layer}mlp.fc2.weight": (v, inner), f"{layer}mlp.fc2.bias": (v,)}
    return {f"vision_model.{name}": (dtype, shape) for name, shape in plain.items()}


def clip_shapes(sizes: Sizes, dtype: str = "F32") -> Shapes:
    """CLIPModel: the tower, and of the rest one tensor of each kind, which a loader leaves out."""
    width, places = sizes.vision, (sizes.image // sizes.patch) ** 2 + 1
    return tower_shapes(sizes, dtype) | {
        "vision_model.embeddings.position_ids": ("I64", (1, places)), "logit_scale": (dtype, ()),
        "visual_projection.weight": (dtype, (width, width)), "text_projection.weight": (dtype, (width, width)),
        "text_model.embeddings.token_embedding.weight": (dtype, (7, width)),
        "text_model.encoder.layers.0.self_attn.q_proj.weight": (dtype, (width, width))}


def upstream_shapes(sizes: Sizes, dtype: str = "BF16", *, nested: bool = True) -> Shapes:
    """MedGPT-oss: InternVLChatModel around CLIPVisionModel and GptOssForCausalLM with dense experts."""
    wide, h = 4 * sizes.vision, sizes.hidden
    prefix = "vision_model." if nested else ""
    found = {prefix + name: kind for name, kind in tower_shapes(sizes, dtype).items()}
    mlp = {"mlp1.0.weight": (wide,), "mlp1.0.bias": (wide,), "mlp1.1.weight": (h, wide), "mlp1.1.bias": (h,),
           "mlp1.3.weight": (h, h), "mlp1.3.bias": (h,)}
    found |= {name: (dtype, shape) for name, shape in mlp.items()}
    language = language_shapes(sizes, dtype, packed=False)
    return found | {f"language_model.{name}": kind for name, kind in language.items()}


def language_config(sizes: Sizes) -> dict[str, Any]:
    """config.json of openai/gpt-oss-20b, with these sizes."""
    return {
        "architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
        "eos_token_id": sizes.end, "experts_per_token": sizes.chosen, "head_dim": sizes.head_dim, "hidden_act": "silu",
        "hidden_size": sizes.hidden, "initial_context_length": sizes.context, "initializer_range": 0.02,
        "intermediate_size": sizes.inner,
        "layer_types": ["full_attention" if n % 2 else "sliding_attention" for n in range(sizes.layers)],
        "max_position_embeddings": int(sizes.context * sizes.factor), "model_type": "gpt_oss",
        "num_attention_heads": sizes.heads, "num_experts_per_tok": sizes.chosen, "num_hidden_layers": sizes.layers,
        "num_key_value_heads": sizes.kv_heads, "num_local_experts": sizes.experts, "output_router_logits": False,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": sizes.factor, "rope_type": "yarn",
                         "original_max_position_embeddings": sizes.context, "truncate": False},
        "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": sizes.window, "swiglu_limit": 7.0,
        "tie_word_embeddings": False, "use_cache": True, "vocab_size": sizes.vocab}


def tower_config(sizes: Sizes) -> dict[str, Any]:
    """vision_config of openai/clip-vit-large-patch14-336, with these sizes."""
    return {
        "attention_dropout": 0.0, "hidden_act": "quick_gelu", "hidden_size": sizes.vision, "image_size": sizes.image,
        "initializer_range": 0.02, "intermediate_size": sizes.vision_inner, "layer_norm_eps": 1e-05,
        "model_type": "clip_vision_model", "num_attention_heads": sizes.vision_heads, "num_channels": 3,
        "num_hidden_layers": sizes.vision_layers, "patch_size": sizes.patch, "projection_dim": sizes.vision}


def stock_config(sizes: Sizes) -> dict[str, Any]:
    """config.json of openai/gpt-oss-20b, with these sizes, packed."""
    return language_config(sizes) | {"quantization_config": {
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens",
                                   "lm_head"], "quant_method": "mxfp4"}}


def clip_config(sizes: Sizes) -> dict[str, Any]:
    """config.json of CLIPModel."""
    return {"architectures": ["CLIPModel"], "model_type": "clip", "vision_config": tower_config(sizes),
            "text_config": {"model_type": "clip_text_model"}}


def upstream_config(sizes: Sizes) -> dict[str, Any]:
    """config.json of InternVLChatModel; with `auto_map`, as published checkpoints have it."""
    return {
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "downsample_ratio": 0.5,
        "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"}, "ps_version": "v2", "select_layer": -1,
        "force_image_size": sizes.image, "max_dynamic_patch": 12, "min_dynamic_patch": 1, "use_thumbnail": True,
        "dynamic_image_size": True, "template": "internvl3_5_gpt_oss", "use_backbone_lora": 0, "use_llm_lora": 0,
        "llm_config": language_config(sizes), "vision_config": tower_config(sizes), "torch_dtype": "bfloat16"}


def tensors(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """Seeded numbers: norms near one, matrices of a size that keeps activations near one."""
    draw = torch.Generator().manual_seed(seed)
    found = {}
    for name, (kind, shape) in shapes.items():
        dtype = TYPES[kind]
        if kind == "U8":
            low, high = (118, 122) if name.endswith("scales") else (0, 256)
            found[name] = torch.randint(low, high, shape, generator=draw, dtype=dtype)
        elif kind == "I64":
            found[name] = torch.arange(shape[-1]).view(shape)
        else:
            value = torch.randn(shape, generator=draw) * 0.15
            found[name] = (value + 1 if "norm" in name and name.endswith("weight") else value).to(dtype)
    return found


def write(folder: Path, config: Mapping[str, Any], values: Mapping[str, torch.Tensor], shards: int = 1) -> Path:
    """A folder as the hub has it: config.json and one file, or shards counted from zero with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    names = sorted(values)
    if shards == 1:
        save_file(dict(values), folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    where = {name: f"model-{at % shards:05d}-of-{shards:05d}.safetensors" for at, name in enumerate(names)}
    for shard in sorted(set(where.values())):
        save_file({name: values[name] for name in names if where[name] == shard}, folder / shard)
    size = sum(one.nbytes for one in values.values())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": where}))
    return folder


def write_sparse(folder: Path, config: Mapping[str, Any], shapes: Shapes) -> int:
    """A folder whose tensors are holes of the file: full size, no disk. Returns the tensors' bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for name, (kind, shape) in shapes.items():
        size = torch.Size(shape).numel() * TYPES[kind].itemsize
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + at)
    return at


def write_upstream(folder: Path, dtype: str = "BF16", *, nested: bool = True, shards: int = 3) -> Path:
    """A tiny MedGPT-oss folder, without a tokenizer."""
    values = tensors(upstream_shapes(TINY, dtype, nested=nested), seed=1)
    return write(folder, upstream_config(TINY), values, shards)


def write_stock(folder: Path, dtype: str = "BF16", *, shards: int = 2) -> Path:
    """A tiny openai/gpt-oss-20b folder, without a tokenizer."""
    return write(folder, stock_config(TINY), tensors(language_shapes(TINY, dtype, packed=True), seed=2), shards)


def write_clip(folder: Path, dtype: str = "F32") -> Path:
    """A tiny openai/clip-vit-large-patch14-336 folder."""
    return write(folder, clip_config(TINY), tensors(clip_shapes(TINY, dtype), seed=3))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/vectors/make_checkpoints.py DIR")
    out = Path(sys.argv[1])
    print(write_upstream(out / "medgpt-oss"), write_stock(out / "gpt-oss"), write_clip(out / "clip"))
