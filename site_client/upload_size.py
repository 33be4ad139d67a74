"""How many numbers a round's upload has, from the base model's spec alone: no weights, no torch.

For the operator who looks at a run before it is approved; a site in a run counts its real adapter.
"""

from __future__ import annotations

from pathlib import Path

from model.adapter_size import adapter_numbers
from model.spec import ModelSpec
from privacy.manifest import FACTORS, RunManifest, StageSpec
from privacy.secagg.quantize import packed_size
from privacy.secagg.rings import wire_lanes
from privacy.secagg.tags import LANE_BYTES

__all__ = ["adapter_numbers", "round_dimensions", "spec_of", "upload_bytes"]


def spec_of(base_model: str) -> ModelSpec | None:
    """The spec in that base model's folder; None where there is none that can be read."""
    try:
        return ModelSpec.read(Path(base_model) / "spec.json")
    except (OSError, ValueError):
        return None


def round_dimensions(manifest: RunManifest, stage: StageSpec, spec: ModelSpec) -> list[int]:
    """Coordinates of the upload of each round of a stage that runs all its rounds; alternation starts with B."""
    by_factor = [adapter_numbers(spec, manifest.lora_rank, stage.groups, one) + wire_lanes(manifest)
                 for one in reversed(FACTORS[stage.schedule])]
    return [by_factor[number % len(by_factor)] for number in range(stage.max_rounds)]


def upload_bytes(manifest: RunManifest, dimension: int) -> int:
    """Bytes of a masked vector of that many coordinates, with the tags behind it."""
    return packed_size(dimension, manifest.bits) + LANE_BYTES * manifest.integrity_tags
