"""The frozen base model: built from a ModelSpec, stored as four files, loaded strictly and identified by their hash.

Class: transformers' LlavaForConditionalGeneration with GPT-oss text and CLIP vision (stock InternVL would silently
lose a CLIP tower on reload). Router logits stay off: their load-balancing loss is a batch statistic that would
couple patients.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import CLIPVisionConfig, GptOssConfig, LlavaConfig, LlavaForConditionalGeneration

from model.mxfp4 import PackedExperts
from model.projector import PixelShuffleProjector
from model.sink_attention import SINK_ATTENTION
from model.spec import ModelSpec
from model.tokenizer import load_tokenizer, save_tokenizer, special_id

__all__ = ["BASE_FILES", "BaseModel", "build", "check_tokenizer", "empty", "hash_model", "load_base", "save_base"]

BASE_FILES = ("config.json", "model.safetensors", "spec.json", "tokenizer.json")
"""What a base model folder holds, and what its content hash covers; any other file in the folder is ignored."""


@dataclass(frozen=True)
class BaseModel:
    """A base model ready for use; content_hash: SHA-256 over BASE_FILES, see `hash_model`."""

    model: LlavaForConditionalGeneration
    tokenizer: Tokenizer
    spec: ModelSpec
    content_hash: bytes


def build(
    spec: ModelSpec, seed: int, *, attention: str = SINK_ATTENTION, experts: str = "grouped_mm"
) -> LlavaForConditionalGeneration:
    """A freshly initialised model in the spec's type; torch's global random state is left as it was.

    attention: `fused_sinks` (fast) or `eager` (reference). experts: `grouped_mm` or `eager`, transformers' names for
    dense experts; both exact, float64 needs `eager`. Build the 20B model only under `torch.device("meta")`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(_config(spec))
        if spec.projector == "internvl":
            model.model.multi_modal_projector = PixelShuffleProjector(spec.vision_hidden_size, spec.hidden_size)
    if spec.experts == "mxfp4":
        _pack_experts(model, spec)
    return _prepared(model.to(getattr(torch, spec.dtype)), attention, experts)


def empty(
    spec: ModelSpec, *, attention: str = SINK_ATTENTION, experts: str = "grouped_mm"
) -> LlavaForConditionalGeneration:
    """The model without weights: parameters and stored buffers on the meta device, what is computed from the spec
    (rotary frequencies, position ids) real. Takes no memory to speak of, also at 20B; arguments as `build`."""
    with torch.device("meta"):
        model = build(spec, 0, attention=attention, experts=experts)
    language, vision = model.model.language_model, model.model.vision_tower
    with torch.device("cpu"):
        language.rotary_emb = type(language.rotary_emb)(language.config)
        positions = vision.embeddings.position_ids
        vision.embeddings.position_ids = torch.arange(positions.shape[-1]).expand(positions.shape)
    stored = model.state_dict().keys()
    lost = [name for name, buffer in model.named_buffers() if buffer.is_meta and name not in stored]
    if lost:
        raise RuntimeError(f"the model has a computed buffer that nothing restores: {lost[0]}")
    return model


def save_base(model: LlavaForConditionalGeneration, tokenizer: Tokenizer, spec: ModelSpec, directory: Path) -> None:
    """Write BASE_FILES into `directory` (made if missing). Raises ValueError when tokenizer and spec disagree."""
    check_tokenizer(tokenizer, spec)
    directory.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(state, str(directory / "model.safetensors"), metadata={"format": "pt"})
    save_tokenizer(tokenizer, directory / "tokenizer.json")
    (directory / "spec.json").write_text(spec.to_json() + "\n", encoding="utf-8")
    model.config.to_json_file(str(directory / "config.json"), use_diff=True)


def load_base(
    directory: Path,
    *,
    expected_hash: bytes | None = None,
    attention: str = SINK_ATTENTION,
    experts: str = "grouped_mm",
) -> BaseModel:
    """Load a base model bit for bit; every weight must be there, of the right shape, and no other.

    Raises ValueError (one sentence) when a file is missing or malformed, or when `expected_hash` is given and the
    folder's content differs from it; nothing is parsed before that check.
    """
    content_hash = hash_model(directory)
    if expected_hash is not None and content_hash != expected_hash:
        raise ValueError("The base model is not the expected one: its content hash differs; get the right folder.")
    spec = ModelSpec.from_json((directory / "spec.json").read_text(encoding="utf-8", errors="replace"))
    tokenizer = load_tokenizer(directory / "tokenizer.json")
    check_tokenizer(tokenizer, spec)
    model = empty(spec, attention=attention, experts=experts)
    try:
        state = load_file(str(directory / "model.safetensors"))
        _require_types(state, model)
        model.load_state_dict(state, strict=True, assign=True)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError("The base model's model.safetensors is damaged or does not fit its spec.json.") from error
    return BaseModel(model, tokenizer, spec, content_hash)


def hash_model(directory: Path) -> bytes:
    """SHA-256 (32 bytes) over name, length and bytes of each of BASE_FILES, in that order.

    Raises ValueError naming the first missing file.
    """
    total = hashlib.sha256(b"base-model/1|")
    for name in BASE_FILES:
        path = directory / name
        if not path.is_file():
            raise ValueError(f"No base model in {directory}: the file {name} is missing.")
        total.update(f"{name}|{path.stat().st_size}|".encode())
        with path.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.digest()


def check_tokenizer(tokenizer: Tokenizer, spec: ModelSpec) -> None:
    """Raises ValueError unless the spec's token ids are those of the tokenizer and its vocabulary fits."""
    expected = {
        "<|endoftext|>": spec.pad_token_id,
        "<|startoftext|>": spec.bos_token_id,
        "<|return|>": spec.eos_token_id,
        "<IMG_CONTEXT>": spec.image_token_id,
    }
    for token, token_id in expected.items():
        if special_id(tokenizer, token) != token_id:
            raise ValueError(f"The tokenizer does not fit the model spec: {token} has another id.")
    if tokenizer.get_vocab_size() > spec.vocab_size:
        raise ValueError("The tokenizer does not fit the model spec: its vocabulary is larger than the model's.")


def _config(spec: ModelSpec) -> LlavaConfig:
    return LlavaConfig(
        text_config=_text_config(spec),
        vision_config=_vision_config(spec),
        image_token_index=spec.image_token_id,
        image_seq_length=spec.tokens_per_tile,
        projector_hidden_act="gelu",
        vision_feature_layer=spec.vision_feature_layer,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )


def _prepared(model: LlavaForConditionalGeneration, attention: str, experts: str) -> LlavaForConditionalGeneration:
    model.set_attn_implementation({"text_config": attention})
    model.set_experts_implementation({"text_config": experts})
    model.requires_grad_(True)
    model.eval()  # no dropout anywhere, so evaluation and training mode compute the same
    return model


def _pack_experts(model: LlavaForConditionalGeneration, spec: ModelSpec) -> None:
    """Put `PackedExperts` in the place of the dense experts; on a real device with their weights, rounded to MXFP4."""
    for layer in model.model.language_model.layers:
        dense = layer.mlp.experts
        device = dense.down_proj.device
        with torch.device(device):
            packed = PackedExperts(
                spec.num_experts, spec.hidden_size, spec.expert_size, alpha=dense.alpha, limit=dense.limit)
        if device.type != "meta":
            packed.pack(dense)
        layer.mlp.experts = packed


def _require_types(state: dict[str, torch.Tensor], model: LlavaForConditionalGeneration) -> None:
    """Raises RuntimeError for a tensor of another type than the model's: assigning would take it over."""
    for name, tensor in model.state_dict().items():
        if name in state and state[name].dtype != tensor.dtype:
            raise RuntimeError(f"{name} is {state[name].dtype}, not {tensor.dtype}")


def _text_config(spec: ModelSpec) -> GptOssConfig:
    return GptOssConfig(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.expert_size,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        num_local_experts=spec.num_experts,
        num_experts_per_tok=spec.experts_per_token,
        sliding_window=spec.sliding_window,
        max_position_embeddings=spec.context,
        initializer_range=spec.initializer_range,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": spec.rope_theta,
            "factor": spec.rope_factor,
            "original_max_position_embeddings": spec.original_context,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
        },
        bos_token_id=spec.bos_token_id,
        eos_token_id=spec.eos_token_id,
        pad_token_id=spec.pad_token_id,
        output_router_logits=False,
        tie_word_embeddings=False,
    )


def _vision_config(spec: ModelSpec) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=spec.vision_hidden_size,
        intermediate_size=spec.vision_mlp_size,
        num_hidden_layers=spec.vision_layers,
        num_attention_heads=spec.vision_heads,
        image_size=spec.image_size,
        patch_size=spec.patch_size,
    )
