"""Exact linear algebra over the rationals, for matrices of a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm
from typing import TypeVar

__all__ = ["left_kernel", "reduced"]

K = TypeVar("K")


def left_kernel(matrix: Sequence[Sequence[int]]) -> list[list[int]]:
    """Integer weights of rows that add up to zero, one basis of them: w with w @ matrix = 0."""
    rows = len(matrix)
    width = len(matrix[0]) if rows else 0
    extended = [[*map(Fraction, row), *(Fraction(int(i == j)) for j in range(rows))] for i, row in enumerate(matrix)]
    _eliminate(extended, width)
    kernel = [row[width:] for row in extended if not any(row[:width])]
    return [[int(value * lcm(*(v.denominator for v in row))) for value in row] for row in kernel]


def reduced(rows: Sequence[dict[K, Fraction]], columns: Sequence[K]) -> list[dict[K, Fraction]]:
    """The reduced echelon form of sparse rows, without its zero rows."""
    dense = [[row.get(column, Fraction(0)) for column in columns] for row in rows]
    _eliminate(dense, len(columns))
    sparse = [{c: value for c, value in zip(columns, row, strict=True) if value} for row in dense]
    return [row for row in sparse if row]


def _eliminate(rows: list[list[Fraction]], width: int) -> None:
    """Gauss and Jordan, in place, on the first `width` columns."""
    pivot = 0
    for column in range(width):
        found = next((i for i in range(pivot, len(rows)) if rows[i][column]), None)
        if found is None:
            continue
        rows[pivot], rows[found] = rows[found], rows[pivot]
        head = rows[pivot][column]
        rows[pivot] = [value / head for value in rows[pivot]]
        for i, row in enumerate(rows):
            if i != pivot and row[column]:
                factor = row[column]
                rows[i] = [a - factor * b for a, b in zip(row, rows[pivot], strict=True)]
        pivot += 1
