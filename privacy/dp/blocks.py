"""The trained layers by the device they lie on, so that one patient's gradient may be spread over several.

*Guarantees.*
    * Every layer is in exactly one block, and a block's columns say which of the layout they are: what is summed is the
      same vector, wherever its layers lie.

*Assumes.*
    * All devices belong to this process. A backward may run one thread a device; each touches its own block only.

*Does not cover.*
    * One layer in parts on several devices; several processes (`privacy.dp.ranks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from privacy.dp.accumulator import ColumnBlock
from privacy.dp.coverage import CoveredLinear
from privacy.dp.per_patient import MicroBatch
from privacy.dp.segments import SegmentCheck

__all__ = ["LayerBlock", "OpenBatch", "layer_blocks"]


@dataclass(frozen=True)
class LayerBlock:
    """The layers on one device; their columns are counted inside the block, `columns` places them in the layout."""

    layers: tuple[CoveredLinear, ...]
    columns: ColumnBlock

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.columns.device

    @property
    def size(self) -> int:
        """Gradient coordinates."""
        return self.columns.size


class OpenBatch:
    """One micro-batch over all blocks: `parts` has a block's own `MicroBatch`, in their order."""

    def __init__(self, parts: Sequence[MicroBatch], segments: SegmentCheck | None) -> None:
        self.parts = tuple(parts)
        self.segments = segments

    @property
    def open(self) -> bool:
        """Whether gradients may still come."""
        return self.parts[0].open

    @property
    def gradients(self) -> list[Tensor]:
        """(P, columns) of each block."""
        return [part.gradients for part in self.parts]

    def close(self) -> None:
        """No gradient may come any more."""
        for part in self.parts:
            part.open = False


def layer_blocks(layers: Sequence[CoveredLinear], block_of: Callable[[CoveredLinear], object]) -> list[LayerBlock]:
    """`layers` grouped by `block_of`, groups in the order of their first layer.

    Raises ValueError when a group's weights lie on several devices.
    """
    groups: dict[object, list[CoveredLinear]] = {}
    for layer in layers:
        groups.setdefault(block_of(layer), []).append(layer)
    return [_block(group) for group in groups.values()]


def _block(group: Sequence[CoveredLinear]) -> LayerBlock:
    if len({layer.weight.device for layer in group}) != 1:
        raise ValueError("the layers of one block lie on several devices: group them by device")
    inside: list[CoveredLinear] = []
    columns: list[slice] = []
    for layer in group:
        inside.append(replace(layer, start=inside[-1].stop if inside else 0))
        columns.append(slice(layer.start, layer.stop))
    return LayerBlock(tuple(inside), ColumnBlock(group[0].weight.device, tuple(columns)))
