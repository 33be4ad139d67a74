"""How many numbers a LoRA adapter of the base model has, from the model's spec alone: no weights, no torch.

For the operator who looks at a run before it is approved; a site in a run counts its real adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from model.spec import ModelSpec
from privacy.manifest import FACTORS, RunManifest, StageSpec
from privacy.secagg.quantize import packed_size
from privacy.secagg.tags import LANE_BYTES
from privacy.statistics import WIRE_LANES

__all__ = ["adapter_numbers", "round_dimensions", "spec_of", "upload_bytes"]


def spec_of(base_model: str) -> ModelSpec | None:
    """The spec in that base model's folder; None where there is none that can be read."""
    try:
        return ModelSpec.from_json((Path(base_model) / "spec.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def adapter_numbers(spec: ModelSpec, rank: int, groups: Sequence[str], factor: str) -> int:
    """Numbers in the factors "A", "B" or "AB" of `groups`: rank times a layer's inputs (A) and outputs (B)."""
    return sum(rank * ((ins if "A" in factor else 0) + (outs if "B" in factor else 0))
               for group in groups for ins, outs in _layers(spec, group))


def _layers(spec: ModelSpec, group: str) -> Iterator[tuple[int, int]]:
    """(inputs, outputs) of every adapted layer; the experts of a block count as one of each, side by side."""
    hidden, heads, kept = spec.hidden_size, spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    if group == "projector":
        yield from ((spec.vision_hidden_size, hidden), (hidden, hidden))
    for _ in range(spec.num_layers):
        if group == "attention":
            yield from ((hidden, heads), (hidden, kept), (hidden, kept), (heads, hidden))
        if group == "experts":
            wide, count = spec.expert_size, spec.num_experts
            yield from ((count * hidden, count * 2 * wide), (count * wide, count * hidden))


def round_dimensions(manifest: RunManifest, stage: StageSpec, spec: ModelSpec) -> list[int]:
    """Coordinates of the upload of each round of a stage that runs all its rounds; alternation starts with B."""
    by_factor = [adapter_numbers(spec, manifest.lora_rank, stage.groups, one) + WIRE_LANES
                 for one in reversed(FACTORS[stage.schedule])]
    return [by_factor[number % len(by_factor)] for number in range(stage.max_rounds)]


def upload_bytes(manifest: RunManifest, dimension: int) -> int:
    """Bytes of a masked vector of that many coordinates, with the tags behind it."""
    return packed_size(dimension, manifest.bits) + LANE_BYTES * manifest.integrity_tags
