"""What other projects call our tensors: InternVL's chat model, stock GPT-oss, OpenAI's CLIP.

Sources: OpenGVLab/InternVL, `internvl_chat_gpt_oss` (`InternVLChatModel`: vision_model, mlp1, language_model); the
safetensors indices of openai/gpt-oss-20b and openai/clip-vit-large-patch14-336.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CLIP", "OURS", "PROJECTOR", "STOCK", "TOWER", "UPSTREAM", "Naming"]

TOWER = "model.vision_tower."
PROJECTOR = "model.multi_modal_projector."
_LANGUAGE = "model.language_model."


@dataclass(frozen=True)
class Naming:
    """Pairs of (their prefix, our prefix), the first that fits counts; left_out: their prefixes that no model needs."""

    prefixes: Sequence[tuple[str, str]]
    left_out: Sequence[str] = ()

    def is_left_out(self, name: str) -> bool:
        """Whether their tensor is none of the model's, by agreement."""
        return name.startswith(tuple(self.left_out)) if self.left_out else False

    def ours(self, name: str) -> str | None:
        """Our name for theirs; None for a name outside the layout."""
        for theirs, ours in self.prefixes:
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return None

    def theirs(self, name: str) -> str:
        """Their name for ours; our own where they have none."""
        for theirs, ours in self.prefixes:
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return name


OURS = Naming((("", ""),))
"""A folder that this project wrote."""

UPSTREAM = Naming(
    (
        ("vision_model.vision_model.", TOWER),
        ("vision_model.", TOWER),
        ("mlp1.0.", f"{PROJECTOR}norm."),
        ("mlp1.1.", f"{PROJECTOR}linear_1."),
        ("mlp1.3.", f"{PROJECTOR}linear_2."),
        ("language_model.model.", _LANGUAGE),
        ("language_model.lm_head.", "lm_head."),
    ),
    left_out=("vision_model.vision_model.embeddings.position_ids", "vision_model.embeddings.position_ids"),
)
"""MedGPT-oss. Its tower is transformers' CLIPVisionModel, whose own `vision_model` came and went between releases."""

STOCK = Naming((("model.", _LANGUAGE), ("lm_head.", "lm_head.")))
"""openai/gpt-oss-20b."""

CLIP = Naming(
    (("vision_model.", TOWER),),
    left_out=("vision_model.embeddings.position_ids", "text_model.", "text_projection.", "visual_projection.",
              "logit_scale"),
)
"""openai/clip-vit-large-patch14-336, of which the text tower and the two projections are left out."""
