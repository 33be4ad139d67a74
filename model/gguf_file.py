"""A LLaMA-type language model out of a GGUF file: its numbers dequantised, its dimensions, its tokenizer.

GGUF is llama.cpp's format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md); the package `gguf` parses it and
knows the quantised types. Two conventions are undone here: a file's matrices are listed (in, out) with (out, in) in
memory, and the rows of q and k are ordered for llama.cpp's rotary positions, pairs side by side instead of half a head
apart. Only text with SiLU, RMS norm of 1e-5, plain rotary positions and a tied language head is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

__all__ = ["GgufModel", "open_gguf"]

_TEXT = "model.language_model."
_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_EMBEDDING, _NORM = "token_embd.weight", "output_norm.weight"
_CONTROL = 3  # GGUF's type of a token that text never produces


@dataclass(frozen=True, eq=False)
class GgufModel:
    """An opened file. facts: the numbers of its header that a spec needs, by `ModelSpec`'s names."""

    path: Path
    reader: Any
    facts: dict[str, Any]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Name (of `model.backbone`'s language model and head) and float32 tensor, one after the other.

        Raises ValueError for a tensor that a LLaMA of these dimensions does not have, or of a type unknown here.
        """
        for one in self.reader.tensors:
            numbers = self._numbers(one)
            if one.name == _EMBEDDING:
                yield f"{_TEXT}embed_tokens.weight", numbers
                yield "lm_head.weight", numbers.clone()  # tied in the file; adapters leave both as they are
            elif one.name == _NORM:
                yield f"{_TEXT}norm.weight", numbers
            else:
                yield self._layer_name(one.name), self._in_order(one.name, numbers)

    def tokenizer(self) -> Tokenizer:
        """The file's byte-level BPE; control tokens come from their ids alone, never out of a text."""
        texts, merges = self._strings("tokenizer.ggml.tokens"), self._strings("tokenizer.ggml.merges")
        kinds = [int(self.reader.fields["tokenizer.ggml.token_type"].parts[index][0])
                 for index in self.reader.fields["tokenizer.ggml.token_type"].data]
        pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
        tokenizer = Tokenizer(models.BPE(vocab={text: number for number, text in enumerate(texts)}, merges=pairs))
        # What llama.cpp calls "smollm": single digits, then GPT-2's pattern.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([
            AddedToken(text, special=True, normalized=False)
            for text, kind in zip(texts, kinds, strict=True) if kind == _CONTROL])
        tokenizer.encode_special_tokens = True
        return tokenizer

    def _numbers(self, one: Any) -> Tensor:
        import gguf

        try:
            values = gguf.quants.dequantize(one.data, one.tensor_type)
        except (NotImplementedError, ValueError) as error:
            raise ValueError(
                f"{self.path} stores {one.name} as {one.tensor_type.name}, which cannot be read.") from error
        return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))

    def _layer_name(self, name: str) -> str:
        block, _, rest = name.removeprefix("blk.").partition(".")
        part = rest.removesuffix(".weight")
        if not name.startswith("blk.") or not block.isdigit() or part not in _NAMES or not rest.endswith(".weight"):
            raise ValueError(f"{self.path} holds {name[:60]}, which a LLaMA does not have.")
        return f"{_TEXT}layers.{block}.{_NAMES[part]}.weight"

    def _in_order(self, name: str, numbers: Tensor) -> Tensor:
        """q and k with a head's rotary pairs half a head apart, as transformers computes them."""
        heads = {"attn_q.weight": self.facts["num_heads"], "attn_k.weight": self.facts["num_kv_heads"]}.get(
            name.rpartition(".attn_")[1].lstrip(".") + name.rpartition(".attn_")[2])
        if heads is None:
            return numbers
        rows = numbers.shape[0] // heads
        return numbers.view(heads, rows // 2, 2, -1).transpose(1, 2).reshape(numbers.shape).contiguous()

    def _strings(self, key: str) -> list[str]:
        field = self.reader.fields[key]
        return [bytes(field.parts[index]).decode("utf-8") for index in field.data]


def open_gguf(path: Path) -> GgufModel:
    """Read the header of a GGUF file; its tensors stay on disk.

    Raises ValueError, one sentence: the library is missing, the file is none, or it describes another kind of model.
    """
    try:
        import gguf
    except ImportError:
        raise ValueError("reading GGUF weights needs the library gguf; run: pip install federated-medgpt[smollm2]"
                         ) from None
    try:
        reader = gguf.GGUFReader(path)
    except Exception as error:  # the library has no type of its own for a damaged file
        raise ValueError(f"{path} is no readable GGUF file; get it again.") from error
    return GgufModel(path, reader, _facts(path, {key: field.contents() for key, field in reader.fields.items()
                                                 if not key.startswith("tokenizer.ggml.")}, reader))


def _facts(path: Path, header: dict[str, Any], reader: Any) -> dict[str, Any]:
    if header.get("general.architecture") != "llama":
        kind = f"{header.get('general.architecture')!s:.40}"
        raise ValueError(f"{path} holds a model of another kind than LLaMA ({kind}).")
    if {"output.weight", "rope_freqs.weight"} & {one.name for one in reader.tensors}:
        raise ValueError(f"{path} has an untied head or scaled positions, which are not supported here.")
    pre = reader.fields.get("tokenizer.ggml.pre")
    if pre is None or pre.contents() != "smollm" or reader.fields["tokenizer.ggml.model"].contents() != "gpt2":
        raise ValueError(f"{path} has another tokenizer than SmolLM's, which is not supported here.")
    try:
        if abs(header["llama.attention.layer_norm_rms_epsilon"] - 1e-5) > 1e-9:
            raise ValueError(f"{path} normalises with another epsilon than 1e-5, which is not supported here.")
        heads, width = int(header["llama.attention.head_count"]), int(header["llama.embedding_length"])
        return {
            "vocab_size": int(header["llama.vocab_size"]), "hidden_size": width,
            "expert_size": int(header["llama.feed_forward_length"]), "num_layers": int(header["llama.block_count"]),
            "num_heads": heads, "num_kv_heads": int(header["llama.attention.head_count_kv"]),
            "head_dim": int(header.get("llama.rope.dimension_count", width // heads)),
            "rope_theta": float(header["llama.rope.freq_base"]),
            "original_context": int(header["llama.context_length"])}
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{path} lacks a dimension that its kind of model has ({error}).") from error
