"""A small LLaMA of our own in a GGUF file, written as llama.cpp's converter writes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from model.tokenizer import CHATML_TOKENS

MERGES = ("t h", "th e", "a n", "Ġ the", "u s", "us e", "use r")
WIDTH, HEADS, KV_HEADS, LAYERS = 64, 4, 2, 3


def vocabulary() -> list[str]:
    """Specials, every byte, and what the merges make."""
    made = ["".join(merge.split(" ")) for merge in MERGES]
    return [*CHATML_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *made]


def small_llama(seed: int = 0) -> LlamaForCausalLM:
    """The model itself, in transformers' own class, with a tied head."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(vocabulary()), hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=WIDTH // HEADS, rms_norm_eps=1e-5,
        max_position_embeddings=256, rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        initializer_range=0.15, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0))
    return model.eval()


def write_gguf(path: Path, model: LlamaForCausalLM, kind: str = "F32", **changes: Any) -> Path:
    """`model` as a GGUF file; kind: of its matrices. changes: `without` (a tensor's name), `architecture`, `pre`."""
    import gguf

    writer = gguf.GGUFWriter(path, changes.get("architecture", "llama"))
    config = model.config
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(changes.get("epsilon", 1e-5))
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changes.get("pre", "smollm"))
    writer.add_token_list(vocabulary())
    writer.add_token_merges(list(MERGES))
    writer.add_token_types([3 if text in CHATML_TOKENS else 1 for text in vocabulary()])
    kinds = {"F32": None, "Q8_0": gguf.GGMLQuantizationType.Q8_0, "Q4_1": gguf.GGMLQuantizationType.Q4_1}
    for name, values in _tensors(model).items():
        if name == changes.get("without"):
            continue
        quantised = kinds[kind] if values.ndim == 2 else None
        if quantised is None:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, quantised), raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(model: LlamaForCausalLM) -> dict[str, np.ndarray]:
    names = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
             "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    found = {"token_embd.weight": model.model.embed_tokens.weight, "output_norm.weight": model.model.norm.weight}
    for number, layer in enumerate(model.model.layers):
        for ours, theirs in names.items():
            weight = layer.get_submodule(ours).weight
            if theirs in ("attn_q", "attn_k"):
                weight = _for_llama_cpp(weight, HEADS if theirs == "attn_q" else KV_HEADS)
            found[f"blk.{number}.{theirs}.weight"] = weight
    return {name: weight.detach().numpy().copy() for name, weight in found.items()}


def _for_llama_cpp(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """`LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py."""
    out, inner = weight.shape
    return weight.reshape(heads, 2, out // heads // 2, inner).swapaxes(1, 2).reshape(out, inner)
