"""The frozen base model: built from a ModelSpec, stored as a few files, loaded strictly and identified by their hash.

Class: transformers' LlavaForConditionalGeneration with GPT-oss text and CLIP vision (stock InternVL would silently
lose a CLIP tower on reload). Router logits stay off: their load-balancing loss is a batch statistic that would
couple patients.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import CLIPVisionConfig, GptOssConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from model.checkpoint import BASE_FILES, Source, checkpoint_files, open_folder
from model.mxfp4 import PackedExperts
from model.projector import PixelShuffleProjector
from model.sink_attention import SINK_ATTENTION
from model.spec import ModelSpec
from model.tokenizer import CHATML_TOKENS, save_tokenizer, special_id
from model.weights_writing import SHARD_BYTES, write_weights

__all__ = [
    "BASE_FILES",
    "BaseModel",
    "build",
    "check_tokenizer",
    "empty",
    "expected_tensors",
    "hash_model",
    "load_base",
    "load_source",
    "save_base",
    "write_description",
]


@dataclass(frozen=True)
class BaseModel:
    """A base model ready for use; content_hash: SHA-256 over its files, see `hash_model`."""

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


def save_base(
    model: LlavaForConditionalGeneration,
    tokenizer: Tokenizer,
    spec: ModelSpec,
    directory: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a base model into `directory` (made if missing); weights of more than `shard_bytes` as several files.

    Raises ValueError when tokenizer and spec disagree.
    """
    check_tokenizer(tokenizer, spec)
    directory.mkdir(parents=True, exist_ok=True)
    on_host = ((name, tensor.cpu()) for name, tensor in model.state_dict().items())
    write_weights(on_host, expected_tensors(model), directory, shard_bytes=shard_bytes)
    write_description(model, tokenizer, spec, directory)


def write_description(
    model: LlavaForConditionalGeneration, tokenizer: Tokenizer, spec: ModelSpec, directory: Path
) -> None:
    """Write all of a base model but its weights: tokenizer, spec, and a config.json for other projects."""
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
    """Load a base model bit for bit, one of this project or MedGPT-oss as published; every weight must be there, of
    the right shape and type, and no other. Takes the memory of the stored weights and little more.

    Raises ValueError (one sentence) when a file is missing or malformed, or when `expected_hash` is given and the
    folder's content differs from it; nothing is parsed before that check but which files there are.
    """
    content_hash = hash_model(directory)
    if expected_hash is not None and content_hash != expected_hash:
        raise ValueError("The base model is not the expected one: its content hash differs; get the right folder.")
    source = open_folder(directory)
    model = load_source(source, attention=attention, experts=experts)
    return BaseModel(model, source.tokenizer, source.spec, content_hash)


def load_source(
    source: Source, *, attention: str = SINK_ATTENTION, experts: str = "grouped_mm"
) -> LlavaForConditionalGeneration:
    """The model of a checkpoint, read tensor by tensor after all of them were checked; arguments as `build`.

    Raises ValueError as `Source.plan` and when tokenizer and spec disagree.
    """
    check_tokenizer(source.tokenizer, source.spec)
    model = empty(source.spec, attention=attention, experts=experts)
    for step in source.plan(expected_tensors(model)):
        for name, tensor in step.tensors():
            _assign(model, name, tensor)
    return model


def expected_tensors(model: LlavaForConditionalGeneration) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Name -> shape and type of every stored tensor of a model, its order; also of an empty one."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in model.state_dict().items()}


def hash_model(directory: Path) -> bytes:
    """SHA-256 (32 bytes) over name, length and bytes of each of the folder's files, in sorted order: BASE_FILES, or
    index and shards in the place of the weights; of MedGPT-oss as published config, tokenizer and weights.

    Raises ValueError naming the first missing file, and for a link that leaves the folder.
    """
    total = hashlib.sha256(b"base-model/1|")
    for name in checkpoint_files(directory):
        path = directory / name
        total.update(f"{name}|{path.stat().st_size}|".encode())
        with path.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.digest()


def check_tokenizer(tokenizer: Tokenizer, spec: ModelSpec) -> None:
    """Raises ValueError unless the spec's token ids are those of the tokenizer and its vocabulary fits."""
    harmony = ("<|endoftext|>", "<|startoftext|>", "<|return|>", "<IMG_CONTEXT>")
    ids = (spec.pad_token_id, spec.bos_token_id, spec.eos_token_id, spec.image_token_id)
    for token, token_id in zip(CHATML_TOKENS if spec.text == "llama" else harmony, ids, strict=True):
        if special_id(tokenizer, token) != token_id:
            raise ValueError(f"The tokenizer does not fit the model spec: {token} has another id.")
    if tokenizer.get_vocab_size() > spec.vocab_size:
        raise ValueError("The tokenizer does not fit the model spec: its vocabulary is larger than the model's.")


def _config(spec: ModelSpec) -> LlavaConfig:
    config = LlavaConfig(
        text_config=_text_config(spec),
        vision_config=_vision_config(spec),
        image_token_index=spec.image_token_id,
        image_seq_length=spec.tokens_per_tile,
        projector_hidden_act="gelu",
        vision_feature_layer=spec.vision_feature_layer,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    if spec.adapted_layers:  # `model.adapter.attach` reads it there, so that nobody who has the model can forget it
        config.adapted_layers = spec.adapted_layers
    return config


def _prepared(model: LlavaForConditionalGeneration, attention: str, experts: str) -> LlavaForConditionalGeneration:
    if model.config.text_config.model_type == "llama":  # no sinks and no experts: torch's own attention is exact
        model.set_attn_implementation({"text_config": "eager" if attention == "eager" else "sdpa"})
    else:
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


def _assign(model: LlavaForConditionalGeneration, name: str, tensor: torch.Tensor) -> None:
    """Put a real tensor in the place of an empty parameter or buffer."""
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    place = getattr(module, leaf)
    if isinstance(place, torch.nn.Parameter):
        tensor = torch.nn.Parameter(tensor, requires_grad=place.requires_grad)
    setattr(module, leaf, tensor)


def _text_config(spec: ModelSpec) -> GptOssConfig | LlamaConfig:
    return _llama_config(spec) if spec.text == "llama" else _gpt_oss_config(spec)


def _text_sizes(spec: ModelSpec) -> dict[str, int]:
    """What both kinds of language model are sized by, as their configurations name it."""
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.expert_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
    }


def _llama_config(spec: ModelSpec) -> LlamaConfig:
    return LlamaConfig(
        **_text_sizes(spec),
        hidden_act="silu",
        max_position_embeddings=spec.context,
        initializer_range=spec.initializer_range,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope_theta},
        bos_token_id=spec.bos_token_id,
        eos_token_id=spec.eos_token_id,
        pad_token_id=spec.pad_token_id,
        tie_word_embeddings=False,
    )


def _gpt_oss_config(spec: ModelSpec) -> GptOssConfig:
    return GptOssConfig(
        **_text_sizes(spec),
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
