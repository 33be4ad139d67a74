"""Ragged products against a loop in float64, on every way they are computed."""

from __future__ import annotations

import pytest
import torch

from privacy.dp import ragged
from privacy.dp.ragged import group_products, grouped_rows

COUNTS = [3, 0, 9, 12]
ENDS = torch.tensor([3, 3, 12, 24], dtype=torch.int32)


def tensors(dtype, m, n):
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)
                 for shape in ((24, m), (24, n), (4, m, n)))  # fmt: skip


@pytest.mark.parametrize(("m", "n"), [(8, 16), (5, 7)])  # aligned for the fused kernel, and not
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_both_products_equal_a_loop(dtype, m, n):
    left, right, matrices = tensors(dtype, m, n)
    parts = list(zip(left.double().split(COUNTS), right.double().split(COUNTS), matrices.double(), strict=True))
    products = torch.stack([a.T @ b for a, b, _ in parts])
    rows = torch.cat([a @ w for a, _, w in parts])
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    got = group_products(left, right, ENDS)
    assert got.dtype == dtype and float((got.double() - products).abs().max()) < tolerance
    assert not got[1].any()
    for layout in (matrices, matrices.mT.contiguous().mT):
        got = grouped_rows(left, layout, ENDS)
        assert got.dtype == dtype and float((got.double() - rows).abs().max()) < tolerance


def test_padding_to_the_longest_group_gives_the_same():
    left, right, _ = tensors(torch.float64, 5, 7)
    padded = torch.bmm(ragged._padded(left, ENDS, 12).mT, ragged._padded(right, ENDS, 12))
    assert float((padded - group_products(left, right, ENDS)).abs().max()) < 1e-13


def test_the_fused_kernel_is_taken_where_it_runs():
    assert ragged._runs(torch.device("cpu"), torch.float32)
    assert not ragged._runs(torch.device("cpu"), torch.float64)
    left, right, _ = tensors(torch.float32, 8, 16)
    assert ragged._fused(left, right) and not ragged._fused(left[:, :5].contiguous(), right)
