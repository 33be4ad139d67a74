"""Clips each patient's joint vector once and adds it to one float64 sum, over any number of micro-batches.

*Guarantees.*
    * `finish` returns the sum over patients of [gradient, statistic lanes, bit], each of norm at most
      C (1 - SLACK) up to 1e-7 C of rounding, with one clip a patient however many micro-batches its rows took.
      The bit, where bounds have one, says whether that patient's whole gradient is at most the threshold long.
    * A patient with a non-finite gradient or lane contributes exactly zero and does not touch the others.
    * What micro-batches bring of an open patient is added in float64, so that where they are cut hardly matters.
    * Memory does not grow with the number of patients: one sum, and one float64 carry for a patient that is open.
    * Where the gradient's columns lie on several devices, the norm is that of all of them together and the clip is
      one: each device scales its own columns by the patient's one factor.
    * With a share of distributed noise each patient's clipped vector is scaled to S - sqrt(d) / 2 and rounded to
      nearest before it is added: `finish` returns an `IntegerSum` (`privacy.dp.noise_share`).

*Assumes.*
    * A row handed in is that patient's whole gradient in this micro-batch, a function of that patient alone.
    * An open patient is the last of its micro-batch and the first of the next.

*Does not cover.*
    * How rows are made (`privacy.dp.engine`, `privacy.dp.opacus_engine`), noise, accounting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from privacy.dp.clipping import ClipBounds, ClippedSum
from privacy.dp.noise_share import IntegerSum
from privacy.dp.shares import NoiseShare

__all__ = ["ClippedAccumulator", "ColumnBlock"]

# Entries of the (P, D) rows that are widened to float64 at a time: 512 KiB stay in a CPU's cache, an accelerator
# gets 32 MiB for fewer launches.
_CPU_CHUNK, _CHUNK = 1 << 16, 1 << 22


@dataclass(frozen=True)
class ColumnBlock:
    """The gradient columns that lie on one device: slices of the layout, in the order of the block's own columns."""

    device: torch.device
    columns: tuple[slice, ...]

    @property
    def size(self) -> int:
        """Its columns."""
        return sum(part.stop - part.start for part in self.columns)


class _Carry(NamedTuple):
    """What an open patient brings into the next micro-batch: gradient float64[D] by block, lanes float64[num_lanes]."""

    gradient: list[Tensor]
    lanes: Tensor


class ClippedAccumulator:
    """The clipped sum of one step, on `device`.

    Args:
        dimension: D, gradient coordinates. num_lanes: statistic lanes after them.
        bounds: how C is shared between them; where they have a bit, the threshold starts at the gradient's room.
        blocks: where the columns lie, each of them in exactly one block; () = all on `device`.
        share: patients are rounded to its levels; None adds them as they are.
    """

    def __init__(
        self, dimension: int, num_lanes: int, bounds: ClipBounds, device: torch.device,
        blocks: Sequence[ColumnBlock] = (), share: NoiseShare | None = None,
    ) -> None:
        if share is not None and (bounds.num_bits or share.dimension != dimension + num_lanes):
            raise ValueError("distributed noise takes no adaptive clip, and its share is for the vector's own length")
        if num_lanes < 0 or (num_lanes > 0) != (bounds.lane_bound > 0):
            raise ValueError("statistic lanes need a lane_bound above 0, and a lane_bound needs lanes")
        self._dimension = dimension
        self._num_lanes = num_lanes
        self._bounds = bounds
        self._share = share
        self._device = device
        self._blocks = tuple(blocks) or (ColumnBlock(device, (slice(0, dimension),)),)
        _require_partition(self._blocks, dimension)
        self._threshold = bounds.gradient_bound if bounds.num_bits else None
        self._carry: _Carry | None = None
        self.discard()

    @property
    def is_open(self) -> bool:
        """Whether the last patient's rows go on in the next micro-batch."""
        return self._carry is not None

    def set_threshold(self, threshold: float) -> None:
        """Clip to `threshold` from here on. ValueError in the middle of a step, and as `require_threshold`."""
        self._bounds.require_threshold(threshold)
        if self._num_patients or self._carry is not None:
            raise ValueError("the threshold is fixed within a step: set it after finish()")
        self._threshold = threshold

    def add(self, rows: Tensor | Sequence[Tensor], lanes: Tensor | None, complete: Tensor | None = None) -> None:
        """Add the per-patient gradients `rows` (P, D), which are overwritten, and `lanes` (P, num_lanes).

        With several blocks `rows` are (P, columns) of each, on its device. `complete` bool[P] is False for the last
        patient when it goes on. Raises ValueError for other shapes.
        """
        parts = [rows] if isinstance(rows, Tensor) else list(rows)
        num_patients = parts[0].shape[0]
        self._require_shapes(parts, num_patients)
        joined = self._lane_rows(lanes, num_patients)
        closed = num_patients - int(_last_is_open(complete, num_patients))
        if self._carry is not None:
            # In float64 until its norm is taken, apart from the float32 rows.
            first = [part[:1].double() + kept for part, kept in zip(parts, self._carry.gradient, strict=True)]
            joined[0] += self._carry.lanes
            self._carry = None
            if closed == 0:
                self._carry = _Carry([part[0] for part in first], joined[0].clone())
                return
            self._add_closed(first, joined[:1])
            parts, joined, closed = [part[1:] for part in parts], joined[1:], closed - 1
        if closed < joined.shape[0]:
            self._carry = _Carry([part[-1].to(torch.float64, copy=True) for part in parts], joined[-1].clone())
        self._add_closed([part[:closed] for part in parts], joined[:closed])

    def finish(self) -> ClippedSum:
        """The step's sum float64[dimension + num_lanes + bits], zero when nothing was added; starts a new step.

        Raises ValueError when a patient is still open.
        """
        if self._carry is not None:
            raise ValueError("a patient is still open: add its last micro-batch before finish()")
        vector = np.empty(self._dimension + self._tail.numel())
        for block, total in zip(self._blocks, self._sums, strict=True):
            values, start = total.cpu().numpy(), 0
            for columns in block.columns:
                stop = start + columns.stop - columns.start
                vector[columns] = values[start:stop]
                start = stop
        vector[self._dimension :] = self._tail.cpu().numpy()
        total_sum = self.sum_of(vector, self._num_patients, self._num_nonfinite)
        self.discard()
        return total_sum

    def sum_of(self, vector: npt.NDArray[np.float64], num_patients: int, num_nonfinite: int) -> ClippedSum:
        """`vector` float64[d] as a sum of this accumulator's kind and bound: of whole patients that it clipped."""
        if self._share is not None:
            return IntegerSum(vector, float(self._share.levels), num_patients, num_nonfinite)
        return ClippedSum(vector, self._bounds.clip_norm, num_patients, num_nonfinite)

    def discard(self) -> None:
        """Drop everything that was added since the last `finish`."""
        self._sums = [torch.zeros(block.size, dtype=torch.float64, device=block.device) for block in self._blocks]
        size = self._num_lanes + self._bounds.num_bits
        self._tail = torch.zeros(size, dtype=torch.float64, device=self._device)
        self._carry = None
        self._num_patients = 0
        self._num_nonfinite = 0

    def _require_shapes(self, parts: Sequence[Tensor], num_patients: int) -> None:
        wanted = [(num_patients, block.size) for block in self._blocks]
        if [tuple(part.shape) for part in parts] != wanted:
            raise ValueError(f"the gradients of {num_patients} patients must have the shapes {wanted}, a block each")

    def _lane_rows(self, lanes: Tensor | None, num_patients: int) -> Tensor:
        """A float64 copy (P, num_lanes) of the lanes, on this device."""
        if lanes is None:
            lanes = torch.empty(num_patients, 0)
        if lanes.shape != (num_patients, self._num_lanes):
            raise ValueError(f"lanes must have shape ({num_patients}, {self._num_lanes}), a row a patient")
        return lanes.detach().to(self._device, torch.float64, copy=True)

    def _add_closed(self, parts: Sequence[Tensor], lanes: Tensor) -> None:
        gradient_norms, lane_norms = joint_norms(parts, self._device), torch.linalg.vector_norm(lanes, dim=1)
        gradient_factors, lane_factors = self._bounds.factors(gradient_norms, lane_norms, self._threshold)
        broken = ~(torch.isfinite(gradient_norms) & torch.isfinite(lane_norms))
        if bool(broken.any()):
            # A factor of zero is not enough: 0 * NaN is NaN.
            for part in parts:
                part[broken.to(part.device)] = 0
            lanes[broken] = 0
        for part, total in zip(parts, self._sums, strict=True):
            factors = gradient_factors.to(part.device)
            for columns in _chunks(part):
                self._add_scaled(total[columns], part[:, columns].double(), factors)
        self._add_scaled(self._tail[: self._num_lanes], lanes, lane_factors)
        if self._threshold is not None:
            self._tail[-1] += self._bounds.bits(gradient_norms, lane_norms, self._threshold).sum()
        self._num_patients += lanes.shape[0]
        self._num_nonfinite += int(broken.sum())


    def _add_scaled(self, total: Tensor, rows: Tensor, factors: Tensor) -> None:
        """total float64[d] += sum over patients of factor times row; each patient's product rounded where it must."""
        if self._share is None:
            total.addmv_(rows.mT, factors)
        else:
            total += (rows * (factors * self._share.scale)[:, None]).round_().sum(dim=0)


def joint_norms(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """L2 norm over all blocks of each patient's row in float64, float64[P] on `device`; not finite when any entry
    is not."""
    squares = _row_squares(parts[0]).to(device)
    for part in parts[1:]:
        squares = squares + _row_squares(part).to(device)
    return squares.sqrt()


def _row_squares(rows: Tensor) -> Tensor:
    """Square of each row's L2 norm, float64[P]."""
    squares = torch.zeros(rows.shape[0], dtype=torch.float64, device=rows.device)
    for columns in _chunks(rows):
        squares += torch.linalg.vector_norm(rows[:, columns].double(), dim=1).square()
    return squares


def _require_partition(blocks: Sequence[ColumnBlock], dimension: int) -> None:
    """Every column in exactly one block: one that is missing would not count in the norm, one twice would be summed
    twice."""
    end = 0
    for columns in sorted((part for block in blocks for part in block.columns), key=lambda part: part.start):
        if columns.start != end or columns.stop < end:
            raise ValueError("the blocks must hold every column of the gradient exactly once")
        end = columns.stop
    if end != dimension:
        raise ValueError("the blocks must hold every column of the gradient exactly once")


def _last_is_open(complete: Tensor | None, num_patients: int) -> bool:
    """Whether the last patient goes on in the next micro-batch."""
    if complete is None:
        return False
    if complete.dtype != torch.bool or complete.shape != (num_patients,):
        raise ValueError(f"complete must be a bool tensor with {num_patients} entries, one a patient")
    if not bool(complete[:-1].all()):
        raise ValueError("only the last patient of a micro-batch may be open: keep samples in patient order")
    return not bool(complete[-1])


def _chunks(rows: Tensor) -> Iterator[slice]:
    entries = _CPU_CHUNK if rows.device.type == "cpu" else _CHUNK
    step = max(1, entries // max(1, rows.shape[0]))
    for start in range(0, rows.shape[1], step):
        yield slice(start, min(start + step, rows.shape[1]))
