"""Write an adapter as others read it: PEFT's layout (transformers, PEFT and vLLM load it), with a plain card."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel

from model.adapter import AdapterLayout

__all__ = ["ADAPTER_FILES", "save_adapter", "stamp_audit"]

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")

_CARD = """---
library_name: peft
tags: [lora, medgpt-oss]
---
# Federated LoRA adapter

{description}

- Base model: {base}
- LoRA: rank {rank}, alpha {alpha}, no dropout, no bias; {where}
- Privacy audit: {audit}
- Load: `peft.PeftModel.from_pretrained(base, "<this folder>")`

Research use only; not for clinical decision-making. Adapters of MedGPT-oss derive from weights under CC BY-NC 4.0 and
carry its terms: no commercial use, no re-identification.
"""
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
    card = _CARD.format(
        description=description or "Trained jointly by several hospitals; only noised sums left any of them.",
        base=base or "see adapter_config.json",
        audit=audit,
        rank=config.r,
        alpha=config.lora_alpha,
        where=_where(model),
    )
    (directory / "README.md").write_text(card, encoding="utf-8")


def stamp_audit(directory: Path, audit: str) -> None:
    """Replace the card's sentence on the audit, where a run was audited after its adapter had been written."""
    card = directory / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines()
    changed = [_AUDIT_LINE + audit if line.startswith(_AUDIT_LINE) else line for line in lines]
    card.write_text("\n".join(changed) + "\n", encoding="utf-8")


def _where(model: PeftModel) -> str:
    """The adapted parts, in words."""
    words = {
        "attention": "language model's attention q/k/v/o",
        "projector": "both projector layers",
        "experts": "experts' gate_up_proj and down_proj",
    }
    groups = {entry.group for entry in AdapterLayout(model).entries}
    return ", ".join(text for group, text in words.items() if group in groups)
