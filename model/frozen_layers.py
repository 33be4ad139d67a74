"""A language model cut at one layer: what lies below the first adapted layer, and the rest from its outputs.

Layers below every adapter are frozen, so their outputs are a function of the base and the sample: they can be computed
once (`model.frozen_prefix`), and a training step runs the layers above. Both halves are views: they share the layers
with the model, adapters and a DP engine's patches included, and own nothing.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

__all__ = ["continued", "first_adapted_layer", "frozen_outputs"]


def first_adapted_layer(plain: Any) -> int:
    """Index of the lowest language layer that may carry an adapter (`ModelSpec.adapted_layers`), 0 = all may."""
    last = int(getattr(plain.config, "adapted_layers", 0))
    return len(plain.model.language_model.layers) - last if last else 0


def frozen_outputs(plain: Any, input_ids: torch.Tensor) -> torch.Tensor:
    """(T, d): what the first adapted layer is given for one text sample, int64 (T,), alone and without padding.

    plain: the base's class, without PEFT's wrapper. Raises ValueError when no layer is frozen.
    """
    language, stop = plain.model.language_model, first_adapted_layer(plain)
    if stop == 0:
        raise ValueError("frozen_outputs: the base has no frozen layers; adapted_layers of its spec is 0.")
    lower = _view(language, 0, stop)
    lower._modules["norm"] = nn.Identity()
    with torch.inference_mode():
        device = language.embed_tokens.weight.device
        embedded = language.embed_tokens(input_ids.to(device)[None])
        mask = torch.ones(embedded.shape[:2], dtype=torch.int64, device=device)
        outputs = lower(inputs_embeds=embedded, attention_mask=mask, position_ids=mask.cumsum(dim=1) - 1,
                        use_cache=False)
        states: torch.Tensor = outputs.last_hidden_state[0]
    return states.clone()  # outside inference mode: it enters a graph


def continued(
    plain: Any, states: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor
) -> torch.Tensor:
    """(B, T, d) that the language head would be given, from the frozen layers' outputs (B, T, d); int64 masks (B, T).

    Raises ValueError when no layer is frozen.
    """
    language, start = plain.model.language_model, first_adapted_layer(plain)
    if start == 0:
        raise ValueError("continued: the base has no frozen layers; adapted_layers of its spec is 0.")
    upper = _view(language, start, len(language.layers))
    weight = next(upper.layers.parameters())
    outputs = upper(inputs_embeds=states.to(weight.device, weight.dtype), attention_mask=attention_mask,
                    position_ids=position_ids, use_cache=False)
    found: torch.Tensor = outputs.last_hidden_state
    return found


def _view(language: Any, start: int, stop: int) -> Any:
    """The language model with the layers `start` to `stop` alone; everything is shared but the list of them."""
    view = copy.copy(language)
    view.__dict__ = dict(language.__dict__)
    view.__dict__["_modules"] = dict(language._modules)
    view._modules["layers"] = nn.ModuleList(list(language.layers)[start:stop])
    config = copy.copy(language.config)
    config.num_hidden_layers = stop - start
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types)[start:stop]
    view.__dict__["config"] = config
    return view
