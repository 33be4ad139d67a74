"""From a checkpoint's config.json to a ModelSpec: every dimension is read, and a setting that this project does not
compute is refused by name.

Absent keys have the defaults of transformers' own configuration classes, which wrote the file. Only the named numbers
are taken from it: `auto_map`, `trust_remote_code` and whatever else asks for code is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer
from transformers import CLIPVisionConfig, GptOssConfig

from model.spec import MEDGPT_OSS_20B, ModelSpec
from model.tokenizer import special_id
from model.weights_file import listed

__all__ = ["composed_spec", "is_upstream", "upstream_spec"]

_LANGUAGE_KEYS = (
    "num_hidden_layers", "num_local_experts", "vocab_size", "hidden_size", "intermediate_size", "head_dim",
    "num_attention_heads", "num_key_value_heads", "sliding_window", "tie_word_embeddings", "hidden_act",
    "initializer_range", "max_position_embeddings", "rms_norm_eps", "attention_dropout", "num_experts_per_tok",
    "swiglu_alpha", "swiglu_limit", "layer_types", "attention_bias", "rope_parameters", "rope_scaling", "rope_theta",
)  # fmt: skip
_LANGUAGE_SETTINGS = {
    "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": True, "attention_dropout": 0.0,
    "rms_norm_eps": 1e-5, "swiglu_alpha": 1.702, "swiglu_limit": 7.0,
}  # fmt: skip
_ROPE_SETTINGS = {"rope_type": "yarn", "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False}
_ROPE_NUMBERS = ("factor", "original_max_position_embeddings", "rope_theta")
_VISION_KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels",
                "image_size", "patch_size", "hidden_act", "layer_norm_eps", "attention_dropout")
_VISION_SETTINGS = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_channels": 3, "attention_dropout": 0.0}
_LAYERS = 1000
_INTERNVL_SETTINGS = {"downsample_ratio": 0.5, "ps_version": "v2", "use_thumbnail": True, "min_dynamic_patch": 1,
                      "use_backbone_lora": 0, "use_llm_lora": 0}
_INTERNVL_DEFAULTS = {"downsample_ratio": 0.5, "ps_version": "v1", "use_thumbnail": False, "min_dynamic_patch": 1,
                      "use_backbone_lora": 0, "use_llm_lora": 0, "select_layer": -1, "max_dynamic_patch": 6}


def is_upstream(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of InternVL's chat model, MedGPT-oss' layout."""
    return config.get("architectures") == ["InternVLChatModel"] or config.get("model_type") == "internvl_chat"


def upstream_spec(config: Mapping[str, Any], tokenizer: Tokenizer, dtype: str) -> ModelSpec:
    """The spec of MedGPT-oss from its config.json: InternVL's projector, ImageNet's pixels, dense experts.

    Raises ValueError naming a setting that is not supported or malformed.
    """
    _require(_INTERNVL_DEFAULTS | dict(config), _INTERNVL_SETTINGS, "config.json")
    llm, vision = config.get("llm_config"), config.get("vision_config")
    _require_end(_section(llm, "llm_config", "gpt_oss"), tokenizer)
    size = config.get("force_image_size")
    if size is not None and isinstance(vision, dict):
        _require({"force_image_size": size}, {"force_image_size": vision.get("image_size", size)}, "config.json")
    return _spec(
        "medgpt-oss", _language(llm, "llm_config"), _vision(vision, "vision_config"), tokenizer, dtype,
        vision_feature_layer=config.get("select_layer", _INTERNVL_DEFAULTS["select_layer"]),
        max_tiles=config.get("max_dynamic_patch", _INTERNVL_DEFAULTS["max_dynamic_patch"]),
        projector="internvl", normalisation="imagenet")


def composed_spec(
    config: Mapping[str, Any], clip: Mapping[str, Any], tokenizer: Tokenizer, dtype: str, *, packed: bool
) -> ModelSpec:
    """The spec of stock GPT-oss (`config`) seeing through stock CLIP (`clip`): Llava's projector, CLIP's pixels.

    packed: the experts are stored as MXFP4. Raises ValueError naming a setting that is not supported or malformed.
    """
    method = config.get("quantization_config")
    if method is not None and (not isinstance(method, dict) or method.get("quant_method") != "mxfp4"):
        raise ValueError("The language model's config.json: quantization_config is not mxfp4; get the stock weights.")
    _require_end(config, tokenizer)
    whole = clip.get("model_type") != "clip_vision_model"
    tower = _vision(clip.get("vision_config") if whole else clip, "vision_config" if whole else "config.json")
    return _spec(
        "gpt-oss+clip", _language(config, "config.json"), tower, tokenizer, dtype,
        vision_feature_layer=MEDGPT_OSS_20B.vision_feature_layer, max_tiles=MEDGPT_OSS_20B.max_tiles,
        projector="llava", normalisation="clip", experts="mxfp4" if packed else "dense")


def _language(values: Any, where: str) -> GptOssConfig:
    values = _section(values, where, "gpt_oss")
    known = {name: values[name] for name in _LANGUAGE_KEYS if name in values}
    if "experts_per_token" in values:  # the stock file gives both names
        known.setdefault("num_experts_per_tok", values["experts_per_token"])
    config = _parsed(GptOssConfig, known, where)
    kinds = ["full_attention" if layer % 2 else "sliding_attention" for layer in range(len(config.layer_types))]
    _require(vars(config), {**_LANGUAGE_SETTINGS, "layer_types": kinds}, where)
    rope = {name: value for name, value in dict(config.rope_parameters).items() if value is not None}
    _require(rope, _ROPE_SETTINGS, f"{where}, rope")
    if other := sorted(rope.keys() - _ROPE_SETTINGS.keys() - set(_ROPE_NUMBERS)):
        raise ValueError(f"{where}, rope: {other[0]} is not supported; get a checkpoint without it.")
    context = rope["factor"] * rope["original_max_position_embeddings"]
    _require(vars(config), {"max_position_embeddings": context}, where)
    return config


def _require_end(values: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """The checkpoint's own end of a turn, where it names one, is the tokenizer's."""
    named, end = values.get("eos_token_id"), special_id(tokenizer, "<|return|>")
    if named is not None and end not in (named if isinstance(named, list) else [named]):
        raise ValueError(
            f"config.json: eos_token_id is {listed([str(named)[:60]])} and <|return|> is {end} in the tokenizer; "
            "give the tokenizer.json of this model.")


def _vision(values: Any, where: str) -> CLIPVisionConfig:
    values = _section(values, where, "clip_vision_model")
    config = _parsed(CLIPVisionConfig, {name: values[name] for name in _VISION_KEYS if name in values}, where)
    _require(vars(config), _VISION_SETTINGS, where)
    return config


def _section(values: Any, where: str, kind: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ValueError(f"config.json: {where} is missing or no object; get the file again.")
    _require({"model_type": kind} | values, {"model_type": kind}, where)
    return values


def _parsed(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    layers = values.get("num_hidden_layers")
    if type(layers) is int and not 0 < layers <= _LAYERS:  # the library would make a list of their kinds
        raise ValueError(f"config.json: {where}: num_hidden_layers is {layers}; it must lie in 1 to {_LAYERS}.")
    try:
        return kind(**values)
    except Exception as error:  # the library has many types of its own
        why = listed((str(error).splitlines() or [""])[:1]).rstrip(" :.")
        raise ValueError(f"config.json: {where} is malformed ({why}); get the file again.") from None


def _require(found: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    """Each of `wanted` is found with that value; what is not found has it by default."""
    for name, value in wanted.items():
        if (other := found.get(name, value)) != value:
            raise ValueError(
                f"{where}: {name} is {listed([str(other)[:60]])}, and only {str(value)[:60]} is supported; "
                "get a checkpoint that has it.")


def _spec(
    name: str, language: GptOssConfig, vision: CLIPVisionConfig, tokenizer: Tokenizer, dtype: str, **rest: Any
) -> ModelSpec:
    rope = language.rope_parameters
    values = {
        "vocab_size": language.vocab_size,
        "hidden_size": language.hidden_size,
        "expert_size": language.intermediate_size,
        "num_layers": language.num_hidden_layers,
        "num_heads": language.num_attention_heads,
        "num_kv_heads": language.num_key_value_heads,
        "head_dim": language.head_dim,
        "num_experts": language.num_local_experts,
        "experts_per_token": language.num_experts_per_tok,
        "sliding_window": language.sliding_window,
        "rope_theta": rope["rope_theta"],
        "rope_factor": rope["factor"],
        "original_context": rope["original_max_position_embeddings"],
        "initializer_range": language.initializer_range,
        "vision_hidden_size": vision.hidden_size,
        "vision_mlp_size": vision.intermediate_size,
        "vision_layers": vision.num_hidden_layers,
        "vision_heads": vision.num_attention_heads,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "bos_token_id": special_id(tokenizer, "<|startoftext|>"),
        "eos_token_id": special_id(tokenizer, "<|return|>"),
        "pad_token_id": special_id(tokenizer, "<|endoftext|>"),
        "image_token_id": special_id(tokenizer, "<IMG_CONTEXT>"),
        "max_tokens": min(MEDGPT_OSS_20B.max_tokens, language.max_position_embeddings),
        "system": MEDGPT_OSS_20B.system,
    }
    return ModelSpec(name=name, dtype=dtype, **values, **rest)
