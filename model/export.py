"""Write an adapter as others read it: PEFT's layout (transformers, PEFT and vLLM load it), with a plain card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import nn

from model.adapter import AdapterLayout, attach
from model.adapter_names import parts_in_words
from model.backbone import empty
from model.spec import LoraSpec, ModelSpec

__all__ = ["ADAPTER_FILES", "adapter_without_base", "save_adapter", "stamp_audit", "write_adapter"]

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")

_CARD = """---
library_name: peft
tags: [lora, {family}]
---
# Federated LoRA adapter

{description}

- Base model: {base}
- LoRA: rank {rank}, alpha {alpha}, no dropout, no bias; {where}
- Privacy audit: {audit}
- Load: `peft.PeftModel.from_pretrained(base, "<this folder>")`

Research use only; not for clinical decision-making. {terms}
"""
_TERMS = {
    "gpt_oss": "Adapters of MedGPT-oss derive from weights under CC BY-NC 4.0 and\n"
               "carry its terms: no commercial use, no re-identification.",
    "llama": "The terms of the base model's weights hold for its adapters."}
_NOT_AUDITED = "not audited: no audit was given"
_AUDIT_LINE = "- Privacy audit: "


def save_adapter(
    model: PeftModel, directory: Path, *, base: str = "", description: str = "", audit: str = _NOT_AUDITED
) -> None:
    """Write ADAPTER_FILES into `directory` (made if missing).

    base: how to name the base model (say, its content hash), recorded in the configuration and the card.
    audit: the sentence of `privacy.audit_claim.audit_claim`, which alone decides who may say "audited".
    Raises ValueError when the model carries no LoRA adapter.
    """
    write_adapter(model, directory, base=base)
    config = model.peft_config["default"]
    text = model.get_base_model().config.text_config.model_type
    card = _CARD.format(
        family="llama" if text == "llama" else "medgpt-oss",
        terms=_TERMS[text],
        description=description or "Trained jointly by several hospitals; only noised sums left any of them.",
        base=base or "see adapter_config.json",
        audit=audit,
        rank=config.r,
        alpha=config.lora_alpha,
        where=parts_in_words({entry.group for entry in AdapterLayout(model).entries}),
    )
    (directory / "README.md").write_text(card, encoding="utf-8")


def write_adapter(model: PeftModel, directory: Path, *, base: str = "") -> None:
    """As `save_adapter`, and no card other than PEFT's own. The base may be without weights."""
    if not isinstance(model, PeftModel):
        raise ValueError("save_adapter: the model carries no LoRA adapter; attach one first.")
    config = model.peft_config["default"]
    previous = config.base_model_name_or_path
    config.base_model_name_or_path = base or previous
    try:
        # "auto" would look the base model up on a hub to learn whether its vocabulary changed.
        model.save_pretrained(str(directory), save_embedding_layers=False)
    finally:
        config.base_model_name_or_path = previous


def adapter_without_base(spec: ModelSpec, lora: LoraSpec, vector: NDArray[np.float64]) -> PeftModel:
    """The adapter with these numbers (float64, layout order) on a base without weights: to write, not to run.

    Takes the adapter's memory only. Raises ValueError for a vector of another size, with a number that is not finite,
    or for experts that the base holds packed.
    """
    if "experts" in lora.groups and spec.experts != "dense":
        raise ValueError("The base model's experts are packed, and a packed expert carries no adapter.")
    model = attach(empty(spec), lora, seed=0)
    layout = AdapterLayout(model)
    for entry in layout.entries:
        module, _, name = entry.name.rpartition(".")
        setattr(model.get_submodule(module), name, nn.Parameter(torch.empty(entry.shape), requires_grad=False))
    layout.write(model, vector)
    return model


def stamp_audit(directory: Path, audit: str) -> None:
    """Replace the card's sentence on the audit, where a run was audited after its adapter had been written."""
    card = directory / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines()
    changed = [_AUDIT_LINE + audit if line.startswith(_AUDIT_LINE) else line for line in lines]
    card.write_text("\n".join(changed) + "\n", encoding="utf-8")
