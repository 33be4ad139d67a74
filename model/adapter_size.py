"""How many numbers a LoRA adapter of a model has, from its spec alone: no weights, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from model.spec import ModelSpec

__all__ = ["adapter_numbers"]


def adapter_numbers(spec: ModelSpec, rank: int, groups: Sequence[str], factor: str = "AB") -> int:
    """Numbers in the factors "A", "B" or "AB" of `groups`: rank times a layer's inputs (A) and outputs (B)."""
    return sum(rank * ((ins if "A" in factor else 0) + (outs if "B" in factor else 0))
               for group in groups for ins, outs in _layers(spec, group))


def _layers(spec: ModelSpec, group: str) -> Iterator[tuple[int, int]]:
    """(inputs, outputs) of every adapted layer; the experts of a block count as one of each, side by side."""
    hidden, heads, kept = spec.hidden_size, spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    if group == "projector":
        image = spec.vision_hidden_size * (4 if spec.projector == "internvl" else 1)
        yield from ((image, hidden), (hidden, hidden))
    for _ in range(spec.adapted_layers or spec.num_layers):
        if group == "attention":
            yield from ((hidden, heads), (hidden, kept), (hidden, kept), (heads, hidden))
        if group == "experts":
            wide, count = spec.expert_size, spec.num_experts
            yield from ((count * hidden, count * 2 * wide), (count * wide, count * hidden))
