"""Which steps are measured: batch, length, rank, width, experts, checkpointing, packing. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

__all__ = ["EXACT", "EXACT_QUICK", "FILL", "GRIDS", "Checkpointing", "Family", "Point", "chosen", "ragged_lengths"]

Checkpointing = Literal["none", "non-reentrant", "reentrant"]
Family = Literal["attention", "experts", "packed"]

FILL = 0.46
"""Share of a ragged batch's padded positions that hold tokens."""


@dataclass(frozen=True)
class Point:
    """One measured step.

    batch: rows, one patient each unless `rows_per_patient` says otherwise; length: tokens of the longest row;
    rank: of LoRA; width: hidden size. experts: LoRA on the expert weights as well as on attention. ragged: row lengths
    are lognormal with a fill of `FILL`, and the packed arms are measured too. num_experts, per_token: of the model.
    """

    batch: int
    length: int
    rank: int
    width: int
    experts: bool = False
    checkpointing: Checkpointing = "none"
    ragged: bool = False
    rows_per_patient: int = 1
    layers: int = 4
    num_experts: int = 8
    per_token: int = 2
    gpt_oss_heads: bool = False

    @property
    def family(self) -> Family:
        """Which goal the point counts towards."""
        if self.ragged:
            return "packed"
        return "experts" if self.experts else "attention"

    @property
    def num_patients(self) -> int:
        """Patients in the step."""
        return self.batch // self.rows_per_patient

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return ragged_lengths(self.batch, self.length) if self.ragged else [self.length] * self.batch

    @property
    def label(self) -> str:
        """The point in a table: B,T,r,d and what differs from a plain attention point."""
        extras = [f"{self.num_experts}e top-{self.per_token}" if self.experts else "",
                  f"ckpt {self.checkpointing}" if self.checkpointing != "none" else "",
                  "ragged" if self.ragged else "",
                  f"{self.rows_per_patient} rows/patient" if self.rows_per_patient > 1 else ""]
        return " ".join([f"{self.batch},{self.length},{self.rank},{self.width}", *filter(None, extras)])


def ragged_lengths(rows: int, longest: int) -> list[int]:
    """Lognormal row lengths (at evenly spaced quantiles, so the same every time) with a fill of about `FILL`.

    The longest row has `longest` tokens, the shortest at least 4. Short and long rows alternate.
    """
    normal = NormalDist()
    scores = [normal.inv_cdf((i + 0.5) / rows) for i in range(rows)]

    def at(spread: float) -> list[int]:
        return [max(4, round(longest * math.exp(spread * (z - scores[-1])))) for z in scores]

    low, high = 0.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(at(middle)) > FILL * rows * longest else (low, middle)
    lengths = at(high)
    return [lengths[i // 2] if i % 2 == 0 else lengths[rows - 1 - i // 2] for i in range(rows)]


_CPU = (
    Point(8, 128, 8, 256),
    Point(8, 128, 16, 256),
    Point(8, 128, 64, 256),
    Point(16, 64, 8, 256),
    Point(32, 32, 8, 256),
    Point(4, 512, 8, 256),
    Point(8, 128, 8, 512),
    Point(8, 128, 16, 768, layers=2),
    Point(16, 64, 8, 256, rows_per_patient=2),
    Point(8, 128, 8, 256, checkpointing="non-reentrant"),
    Point(8, 128, 8, 256, checkpointing="reentrant"),
    Point(8, 128, 16, 512, checkpointing="non-reentrant"),
    Point(4, 128, 8, 256, experts=True),
    Point(8, 128, 8, 256, experts=True),
    Point(8, 128, 8, 512, experts=True),
    Point(8, 256, 8, 256, experts=True, num_experts=16, per_token=4),
    Point(8, 128, 8, 256, experts=True, checkpointing="non-reentrant"),
    Point(16, 128, 8, 256, ragged=True),
    Point(8, 256, 8, 256, ragged=True),
    Point(32, 64, 8, 256, ragged=True),
    Point(8, 128, 8, 512, ragged=True),
    Point(16, 128, 8, 256, ragged=True, experts=True),
)

_QUICK = (_CPU[0], _CPU[13], _CPU[17])


def _large(batch: int, length: int, rank: int, width: int, *, experts: bool = False, ragged: bool = False,
           checkpointing: Checkpointing = "none") -> Point:
    """A point with the heads, experts and routing of GPT-oss-20B (arXiv 2508.10925, table 1), four layers."""
    return Point(batch, length, rank, width, experts, checkpointing, ragged, num_experts=32, per_token=4,
                 gpt_oss_heads=True)


_GPU = (
    _large(8, 512, 8, 1024),
    _large(8, 1024, 16, 1024),
    _large(8, 512, 8, 2880),
    _large(8, 1024, 16, 2880),
    _large(16, 512, 8, 2880),
    _large(4, 2048, 8, 2880),
    _large(8, 512, 64, 2880),
    _large(8, 1024, 16, 2880, checkpointing="non-reentrant"),
    _large(8, 1024, 16, 2880, checkpointing="reentrant"),
    _large(4, 512, 8, 1024, experts=True),
    _large(4, 1024, 8, 2880, experts=True),
    _large(8, 512, 8, 2880, experts=True),
    _large(16, 1024, 8, 2880, ragged=True),
    _large(8, 2048, 8, 2880, ragged=True),
    _large(8, 1024, 8, 2880, ragged=True, experts=True),
)

EXACT = (
    Point(8, 128, 8, 256),
    Point(6, 48, 4, 128),
    Point(6, 48, 4, 128, rows_per_patient=2),
    Point(6, 48, 4, 128, checkpointing="non-reentrant"),
    Point(6, 48, 4, 128, checkpointing="reentrant"),
    Point(6, 48, 4, 128, ragged=True),
    Point(6, 48, 4, 128, experts=True),
    Point(6, 48, 4, 128, experts=True, checkpointing="non-reentrant"),
    Point(6, 48, 4, 128, experts=True, ragged=True),
)
"""Where the engine is compared with the float64 loop, in float32 and float64; ragged ones padded and packed."""

EXACT_QUICK = (EXACT[1], EXACT[6], EXACT[8])
"""Those that a quick run compares."""

GRIDS = {"cpu": _CPU, "gpu": _GPU}
"""Grid name -> every point of it."""


def chosen(grid: str, quick: bool) -> tuple[Point, ...]:
    """The points of a run: a whole grid, or with `quick` one point of each family."""
    if not quick:
        return GRIDS[grid]
    return _QUICK if grid == "cpu" else (_GPU[0], _GPU[9], _GPU[12])
