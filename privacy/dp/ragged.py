"""Matrix products over ragged groups of rows: the shape of packed patients, and of experts' tokens.

*Guarantees.*
    * `group_products` returns for every group the product of its own rows alone, zero for an empty group, and
      `grouped_rows` multiplies each row by its own group's matrix: also where the fused kernel is missing.
    * The result does not depend on which of the three ways computed it beyond the rounding of its type.

*Assumes.*
    * `ends` are the groups' cumulative row counts, the last one the number of rows.

*Does not cover.*
    * Which patient a group belongs to (`privacy.dp.per_patient`, `privacy.dp.experts`).

torch's `grouped_mm` takes bfloat16 on CUDA, and float32, bfloat16 and float16 on the CPU, with strides that are
multiples of 16 bytes; everything else goes one of the slower ways.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["group_products", "grouped_rows"]

_ALIGNMENT_BYTES = 16
# Padding to the longest group is worth it up to so many times the rows; beyond, groups are done one by one.
_MOST_PADDING = 4


def group_products(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    """For each group of rows, left^T right: (S, m) and (S, n) with `ends` int32[G] give (G, m, n), same type."""
    left, right = left.contiguous(), right.contiguous()
    if _fused(left, right):
        product: Tensor = F.grouped_mm(left.t(), right, offs=ends)
        if product.is_cuda:  # a group without rows has no product to write there
            product.masked_fill_((torch.diff(ends, prepend=ends.new_zeros(1)) == 0)[:, None, None], 0)
        return product
    counts = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
    if left.is_cuda and len(counts) * max(counts) <= _MOST_PADDING * left.shape[0]:
        return torch.bmm(_padded(left, ends, max(counts)).mT, _padded(right, ends, max(counts)))
    product = left.new_zeros(len(counts), left.shape[1], right.shape[1])
    parts = zip(torch.split(left, counts), torch.split(right, counts), product, strict=True)
    for rows, others, out in parts:
        if rows.shape[0]:
            torch.mm(rows.t(), others, out=out)
    return product


def grouped_rows(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """Each row times its group's matrix: (S, m) and (G, m, n) with `ends` int32[G] give (S, n), same type."""
    rows = rows.contiguous()
    if _fused(rows, matrices):
        product: Tensor = F.grouped_mm(rows, matrices, offs=ends)
        return product
    counts = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
    product = rows.new_empty(rows.shape[0], matrices.shape[2])
    for part, matrix, out in zip(torch.split(rows, counts), matrices, torch.split(product, counts), strict=True):
        torch.mm(part, matrix, out=out)
    return product


def _padded(rows: Tensor, ends: Tensor, longest: int) -> Tensor:
    """(S, d) as (G, longest, d), filled up with zeros."""
    index = torch.arange(rows.shape[0], device=rows.device)
    group = torch.searchsorted(ends, index.to(ends.dtype), right=True)
    starts = F.pad(ends, (1, 0))[:-1]
    padded = rows.new_zeros(ends.numel(), longest, rows.shape[1])
    padded[group, index - starts[group]] = rows
    return padded


def _fused(left: Tensor, right: Tensor) -> bool:
    """Whether torch's grouped product takes these two."""
    aligned = all(
        tensor.data_ptr() % _ALIGNMENT_BYTES == 0 and _aligned_strides(tensor) for tensor in (left, right)
    )
    return left.numel() > 0 and aligned and left.dtype == right.dtype and _runs(left.device, left.dtype)


def _aligned_strides(tensor: Tensor) -> bool:
    """One of the last two axes is dense, every other stride a multiple of 16 bytes."""
    *others, row, column = tensor.stride()
    dense, wide = (column, row) if column == 1 else (row, column)
    return dense == 1 and all(s * tensor.element_size() % _ALIGNMENT_BYTES == 0 for s in (*others, wide))


@lru_cache(maxsize=32)
def _runs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this release of torch has a grouped product for this device and type, by trying a small one."""
    if not hasattr(F, "grouped_mm"):
        return False
    rows, ends = torch.ones(16, 16, device=device, dtype=dtype), torch.tensor([16], dtype=torch.int32, device=device)
    try:
        product = F.grouped_mm(rows.t(), rows, offs=ends)
        again = F.grouped_mm(rows, rows[None], offs=ends)
    except (RuntimeError, NotImplementedError):
        return False
    return bool((product == 16).all() and (again == 16).all())
